"""Mutants: copies of a source file with one small change. The operators are those of cosmic-ray.

Changes in annotations, docstrings and the options of records (`frozen=True`) are left out. Of a
binary operator only the replacement that keeps the types is taken: the others fail at once.
"""

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import CodeType
from typing import Any
from warnings import catch_warnings, simplefilter

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.plugins import get_operator, operator_names

from tests.mutation.parts import ROOT

_BINARY = "core/ReplaceBinaryOperator_"
_KEPT_BINARY = {
    *("Add_Sub", "Sub_Add", "Mul_FloorDiv", "Div_Mul", "FloorDiv_Mul", "Mod_FloorDiv"),
    *("BitOr_BitAnd", "BitAnd_BitOr", "BitXor_BitOr", "LShift_RShift", "RShift_LShift"),
}
_LEFT_OUT = ("core/NoOp", "core/VariableInserter", "core/VariableReplacer")


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A source file with a change in line `line`: `before` became `after`."""

    file: Path
    line: int
    before: str
    after: str
    operator: str
    source: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What identifies it, wherever the line is now."""
        return str(self.file), self.before, self.after


def mutants_of(file: Path) -> list[Mutant]:
    """All mutants of a file that differ, in the order of their lines."""
    source = (ROOT / file).read_text()
    mutants = {m.source: m for m in _made_of(file, source)}
    return sorted(mutants.values(), key=lambda m: (m.line, m.operator, m.after))


def sampled(mutants: list[Mutant], size: int, seed: int) -> list[Mutant]:
    """At most `size` of them, spread by a hash: an edit of one line leaves the others in."""
    ranked = sorted(mutants, key=lambda m: hashlib.blake2b(f"{seed}{m.key}".encode()).digest())
    return ranked[:size]


def replaced(file: Path, before: str, after: str) -> Mutant:
    """The mutant with another text in place of one that stands once in the file.

    Raises:
        ValueError: it does not stand there once.
    """
    source = (ROOT / file).read_text()
    if source.count(before) != 1:
        raise ValueError(f"{file}: this text is there {source.count(before)} times: {before!r}")
    return Mutant(
        file=file,
        line=source[: source.index(before)].count("\n") + 1,
        before=before.strip(),
        after=after.strip(),
        operator="by hand",
        source=source.replace(before, after),
    )


def compiled(source: str, file: str) -> CodeType:
    """The code of a source. That it compares a literal by `is` is for the tests to notice."""
    with catch_warnings():
        simplefilter("ignore", SyntaxWarning)
        code: CodeType = compile(source, file, "exec", dont_inherit=True)
        return code


def _operators() -> dict[str, Any]:
    names = (n for n in operator_names() if not n.startswith(_LEFT_OUT))
    return {
        n: get_operator(n)()
        for n in names
        if not n.startswith(_BINARY) or n.removeprefix(_BINARY) in _KEPT_BINARY
    }


def _made_of(file: Path, source: str) -> Iterator[Mutant]:
    tree, ignored = get_ast(source), _without_effect(source)
    for node, (name, operator) in product(list(ast_nodes(tree)), _operators().items()):
        for index, (position, _) in enumerate(list(operator.mutation_positions(node))):
            if any(start <= position < end for start, end in ignored):
                continue
            mutated = _mutated(tree, node, operator, index)
            if mutated != source and _compiles(mutated):
                before, after = _changed_lines(source, mutated)
                yield Mutant(
                    file=file,
                    line=position[0],
                    before=before,
                    after=after,
                    operator=name,
                    source=mutated,
                )


def _mutated(tree: Any, node: Any, operator: Any, index: int) -> str:
    """The source with the node changed. The tree is as before afterwards: parsing takes long."""
    kept = [
        (n, "children", list(n.children)) if hasattr(n, "children") else (n, "value", n.value)
        for n in (node.parent, *ast_nodes(node))
        if n is not None
    ]
    changed = operator.mutate(node, index)
    if changed is not node:
        node.parent.children = [
            c
            for c in (changed if c is node else c for c in node.parent.children)
            if c is not None  # the operator took it away
        ]
    mutated: str = tree.get_code()
    for n, attribute, value in kept:
        setattr(n, attribute, value)
    return mutated


def _without_effect(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where annotations, lone texts and the options of records are."""
    nodes: list[ast.expr | None] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.arg, ast.AnnAssign)):
            nodes.append(node.annotation)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            nodes.append(node.returns)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            nodes.append(node.value)
        elif isinstance(node, ast.ClassDef):
            calls = [d for d in node.decorator_list if isinstance(d, ast.Call)]
            nodes += [k.value for k in (*node.keywords, *(k for c in calls for k in c.keywords))]
    return [
        ((n.lineno, n.col_offset), (n.end_lineno or 0, n.end_col_offset or 0)) for n in nodes if n
    ]


def _compiles(source: str) -> bool:
    try:
        compiled(source, "mutant")
    except SyntaxError:
        return False
    return True


def _changed_lines(source: str, mutated: str) -> tuple[str, str]:
    """The lines that differ, of both."""
    old, new = source.splitlines(), mutated.splitlines()
    start = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), 0)
    tail = 0
    while tail < min(len(old), len(new)) - start and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    join = " ".join
    return (
        join(line.strip() for line in old[start : len(old) - tail]),
        join(line.strip() for line in new[start : len(new) - tail]),
    )

"""The source of a function: the node of the syntax tree that its code was compiled from."""

import ast
import linecache
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType
from typing import Any

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


class SourceChanged(Exception):
    """The file is not the one that the code was compiled from."""


@dataclass(frozen=True, kw_only=True)
class ParsedFile:
    """The functions of a file by their first line, and the names that functions make global."""

    functions: Mapping[int, tuple[FunctionNode, ...]]
    rebound: frozenset[str]


def parsed_file(filename: str, module_globals: Mapping[str, Any]) -> ParsedFile | None:
    """The file as it is now; None if there is no source."""
    linecache.checkcache(filename)
    lines = linecache.getlines(filename, dict(module_globals))
    return _parsed("".join(lines)) if lines else None


def function_node(code: CodeType, module_globals: Mapping[str, Any]) -> FunctionNode | None:
    """The node of a function; None if its source is not known.

    Raises:
        SourceChanged: the file was edited since it was imported.
    """
    file = parsed_file(code.co_filename, module_globals)
    if file is None:
        return None
    nodes = [n for n in file.functions.get(code.co_firstlineno, ()) if _name(n) == code.co_name]
    if len(nodes) > 1:
        nodes = _containing(nodes, code)
    if len(nodes) != 1 or not _names_in(code) <= _identifiers(nodes[0]):
        raise SourceChanged
    return nodes[0]


@lru_cache(maxsize=512)
def _parsed(text: str) -> ParsedFile | None:
    try:
        tree = ast.parse(text)
    except SyntaxError:  # a cell with magic commands, or a file that is being edited
        return None
    functions: dict[int, list[FunctionNode]] = defaultdict(list)
    rebound: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, _FUNCTIONS):
            functions[_first_line(node)].append(node)
        elif isinstance(node, ast.Global):
            rebound.update(node.names)
    return ParsedFile(
        functions={line: tuple(nodes) for line, nodes in functions.items()},
        rebound=frozenset(rebound),
    )


def _first_line(node: FunctionNode) -> int:
    """As code objects count it: from the first decorator on."""
    decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
    return min([node.lineno, *(d.lineno for d in decorators)])


def _name(node: FunctionNode) -> str:
    return "<lambda>" if isinstance(node, ast.Lambda) else node.name


def _containing(nodes: list[FunctionNode], code: CodeType) -> list[FunctionNode]:
    """Of several on one line those, most often one, whose body the code's columns lie in: the
    innermost. Those that have the same tree are one."""
    columns = [p for p in code.co_positions() if None not in p and p[2] != p[3]]
    spans = [(n, _body_span(n)) for n in nodes]
    if columns:
        start = min((line, column) for line, _, column, _ in columns)
        end = max((line, column) for _, line, _, column in columns)
        spans = [(n, (a, b)) for n, (a, b) in spans if a <= start and end <= b]
        spans.sort(key=lambda s: (s[1][0], [-x for x in s[1][1]]), reverse=True)
        return [n for n, _ in spans[:1]]
    return nodes[:1] if len({ast.dump(n) for n in nodes}) == 1 else nodes


def _body_span(node: FunctionNode) -> tuple[tuple[int, int], tuple[int, int]]:
    body = node.body if isinstance(node.body, list) else [node.body]
    first, last = body[0], body[-1]
    assert last.end_lineno is not None
    assert last.end_col_offset is not None
    return (first.lineno, first.col_offset), (last.end_lineno, last.end_col_offset)


def _names_in(code: CodeType) -> set[str]:
    """The names that the code uses, without those of private attributes and of test tools."""
    names = {part for name in code.co_names for part in name.split(".")}
    return {n for n in names if not n.startswith(("_", "@"))} if _plain(code) else set()


def _plain(code: CodeType) -> bool:
    return not any(name.startswith("@") for name in code.co_names)  # pytest rewrites asserts


def _identifiers(node: ast.AST) -> set[str]:
    names: set[str] = set()
    for n in ast.walk(node):
        for field in ("id", "attr", "name", "module", "arg"):
            value = getattr(n, field, None)
            if isinstance(value, str):
                names.update(value.split("."))
    return names

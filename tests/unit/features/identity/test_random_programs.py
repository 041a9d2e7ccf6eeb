"""Random programs: each change of meaning changes the identity, no change of style does."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.identity.formulas import identity_of
from tests.support.made_modules import MadeModules

OPERATORS = ("+", "-", "*", "//", "%")
# how a helper holds its constant
PLACES = ("global", "literal", "default", "closure", "set", "dict", "class", "enum", "partial")


@dataclass(frozen=True)
class Helper:
    """`x operator constant`, then the sum of what earlier helpers give for it."""

    place: str
    operator: str
    constant: int
    calls: tuple[int, ...]


@dataclass(frozen=True)
class Style:
    """What has no effect."""

    prefix: str = "h"
    argument: str = "x"
    local: str = "y"
    docstrings: bool = False
    annotations: bool = False
    comments: bool = False
    spare: bool = False  # a helper that nothing calls


Program = tuple[Helper, ...]


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """At least one helper; the formula calls the last one, and each calls the one before it."""
    helpers = []
    for i in range(draw(st.integers(1, 5))):
        earlier = draw(st.lists(st.integers(0, i - 1), max_size=2)) if i else []
        helpers.append(
            Helper(
                place=draw(st.sampled_from(PLACES)),
                operator=draw(st.sampled_from(OPERATORS)),
                constant=draw(st.integers(1, 99)),
                calls=(*earlier, i - 1) if i else (),
            )
        )
    return tuple(helpers)


styles = st.builds(
    Style,
    prefix=st.sampled_from(["h", "helper", "_f"]),
    argument=st.sampled_from(["x", "value"]),
    local=st.sampled_from(["y", "result"]),
    docstrings=st.booleans(),
    annotations=st.booleans(),
    comments=st.booleans(),
    spare=st.booleans(),
)


@st.composite
def changed(draw: st.DrawFn, program: Program) -> Program:
    """The program with one helper of another meaning."""
    place = draw(st.integers(0, len(program) - 1))
    helper = program[place]
    changes = [
        replace(helper, constant=helper.constant + draw(st.integers(1, 9))),
        replace(
            helper, operator=draw(st.sampled_from([o for o in OPERATORS if o != helper.operator]))
        ),
        replace(helper, calls=helper.calls[1:] if len(helper.calls) > 1 else helper.calls * 2),
    ]
    possible = [c for c in changes if c != helper]
    return (*program[:place], draw(st.sampled_from(possible)), *program[place + 1 :])


def source(program: Program, style: Style) -> str:
    """The program as a module."""
    note = "  # a note" if style.comments else ""
    lines = [
        "from enum import Enum",
        "from functools import partial",
        *(f"def {style.prefix}_spare({style.argument}): return {note}" for _ in range(style.spare)),
    ]
    for i, helper in enumerate(program):
        lines += _helper(i, helper, style, note)
    argument, last = style.argument, f"{style.prefix}{len(program) - 1}"
    return "\n".join([*lines, f"formula = lambda {argument}: {last}({argument})"])


def _helper(i: int, helper: Helper, style: Style, note: str) -> list[str]:
    name, x, y, value = f"{style.prefix}{i}", style.argument, style.local, helper.constant
    where = f"{style.prefix.upper()}_{i}"
    before, operand, parameters, after = {
        "global": ([f"{where} = {value}{note}"], where, x, []),
        "literal": ([], str(value), x, []),
        "default": ([], "n", f"{x}, n={value}", []),
        "closure": ([], "n", x, []),
        "set": ([f"{where} = {{{value}, 'a', 'b'}}"], f"len({where} & {{1}})", x, []),
        "dict": ([f"{where} = {{'a': [{value}]}}"], f"{where}['a'][0]", x, []),
        "class": ([f"class {where}:\n    N = {value}"], f"{where}.N", x, []),
        "enum": ([f"class {where}(Enum):\n    N = {value}"], f"{where}.N.value", x, []),
        "partial": ([], "n", f"n, {x}", [f"{name} = partial({name}, {value})"]),
    }[helper.place]
    types = (": int", " -> int") if style.annotations else ("", "")
    calls = " + ".join(f"{style.prefix}{c}({y})" for c in helper.calls) or y
    body = [
        *(['    """What it gives."""'] if style.docstrings else []),
        f"    {y}{types[0]} = {x} {helper.operator} {operand}{note}",
        f"    return {calls}",
    ]
    definition = [f"def {name}({parameters}){types[1]}:{note}", *body]
    if helper.place == "closure":
        inner = ["    " + line for line in definition]
        definition = [
            f"def make{i}(n):",
            *inner,
            f"    return {name}",
            f"{name} = make{i}({value})",
        ]
    return [*before, *definition, *after]


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_identity_follows_the_meaning_of_a_program(tmp_path: Path, data: Any) -> None:
    made = MadeModules(tmp_path)

    def identity(program: Program, style: Style) -> str:
        return identity_of(made(source(program, style), name="made_program").formula, "f").digest

    program, style = data.draw(programs()), data.draw(styles)
    known = identity(program, Style())
    assert identity(program, style) == known
    assert identity(data.draw(changed(program)), style) != known

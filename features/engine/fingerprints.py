"""The identity of a declaration: what changes when stored values would mean something else."""

import hashlib
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any

from features.definitions.views import View


def fingerprint(function: Callable[..., Any]) -> str:
    """A text that changes when a function's code, constants or captured values change."""
    code = getattr(function, "__code__", None)
    if code is None:
        return repr(function)
    captured = [c.cell_contents for c in getattr(function, "__closure__", None) or ()]
    return repr((_code(code), [fingerprint(c) if callable(c) else repr(c) for c in captured]))


def schema_id(view: View, columns: Sequence[str], dependencies: Sequence[object]) -> int:
    """63 bits that change with the meaning of a view's stored columns.

    `dependencies`: what the stored numbers depend on beside the view's name, events, entity, reach
    and checks. They hold bytecode, so a column's changed formula is noticed; so is a new minor
    version of Python, which then needs a rebuild that nothing else needs.
    """
    sources = [
        (
            e.schema,
            e.known_after_us,
            [(c.name, c.field, c.reads, fingerprint(c.holds)) for c in e.checks_with("nullify")],
        )
        for e in view.sources
    ]
    parts = [view.name, sources, view.entity.keys, view.reach_us, tuple(columns), *dependencies]
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _code(code: CodeType) -> tuple[object, ...]:
    constants = [_code(c) if isinstance(c, CodeType) else c for c in code.co_consts]
    return (code.co_code, constants, code.co_names)

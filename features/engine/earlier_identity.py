"""The rule of release 0.1.0 for the identity of a view: it recognises state of that release.

It compares bytecode, so it matches under the minor version of Python only that wrote the state.
"""

import hashlib
from collections.abc import Sequence
from types import CodeType
from typing import Any

from features.definitions.views import View


def earlier_schema_id(view: View, columns: Sequence[str], dependencies: Sequence[object]) -> int:
    """The schema id that release 0.1.0 gave to the same declaration."""
    sources = [
        (
            e.schema,
            e.known_after_us,
            [(c.name, c.field, c.reads, _fingerprint(c.holds)) for c in e.checks_with("nullify")],
        )
        for e in view.sources
    ]
    parts = [
        *(view.name, sources, view.entity.keys, view.reach_us, tuple(columns)),
        *(_with_fingerprints(d) for d in dependencies),
    ]
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _with_fingerprints(dependency: object) -> object:
    if callable(dependency):
        return _fingerprint(dependency)
    if type(dependency) in (list, tuple):
        assert isinstance(dependency, (list, tuple))
        return type(dependency)(_with_fingerprints(d) for d in dependency)
    return dependency


def _fingerprint(function: Any) -> str:
    code = getattr(function, "__code__", None)
    if code is None:
        return repr(function)
    captured = [c.cell_contents for c in getattr(function, "__closure__", None) or ()]
    return repr((_code(code), [_fingerprint(c) if callable(c) else repr(c) for c in captured]))


def _code(code: CodeType) -> tuple[object, ...]:
    constants = [_code(c) if isinstance(c, CodeType) else c for c in code.co_consts]
    return (code.co_code, constants, code.co_names)

"""Texts that terminals and pages only show: ids and codes without control characters.

A pattern of msgspec would cost a microsecond an event. JSON has a control character as an escape
only, so a value without a backslash holds none, and only the others are looked at.
"""

from functools import cache
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import msgspec

from features.definitions.events import PRINTABLE

_CONTROLS: Final = frozenset(map(chr, (*range(0x20), *range(0x7F, 0xA0))))


def unprintable_field(record: msgspec.Struct, value: bytes) -> str | None:
    """The first field declared `PRINTABLE` that holds a control character; `value` is its JSON."""
    if b"\\" not in value and b"\x7f" not in value and b"\xc2" not in value:
        return None
    return next((name for name in _fields(type(record)) if _holds_one(record, name)), None)


def _holds_one(record: msgspec.Struct, name: str) -> bool:
    text = getattr(record, name)
    return text is not None and not _CONTROLS.isdisjoint(text)


@cache
def _fields(record: type[msgspec.Struct]) -> tuple[str, ...]:
    hints = get_type_hints(record, include_extras=True)
    return tuple(name for name, hint in hints.items() if _is_printable(hint))


def _is_printable(hint: Any) -> bool:
    """Whether the annotation, or one of a union's, says so."""
    if get_origin(hint) is Annotated:
        return PRINTABLE in get_args(hint)[1:]
    return any(map(_is_printable, get_args(hint)))

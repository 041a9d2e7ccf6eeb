"""Texts that terminals and pages only show: ids and codes without control characters.

A pattern of msgspec would cost a microsecond an event. JSON has a control character as an escape
only, so a value without a backslash holds none, and only the others are looked at.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import msgspec

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
    info: Any = msgspec.inspect.type_info(record)
    return tuple(field.name for field in info.fields if any(map(_is_printable, _parts(field.type))))


def _parts(kind: Any) -> Iterator[Any]:
    yield kind
    yield from getattr(kind, "types", ())


def _is_printable(kind: Any) -> bool:
    return (getattr(kind, "extra", None) or {}).get("printable") is True

"""Which changes of an event's record its table in the offline store can follow.

A field may be added when an old row has a value for it: the field's default, as the codec gives it
to an old message. Everything else (a field that is gone, renamed or of another type, a new one
without a default) would make the rows of before and after disagree, and is refused.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import inspect

from features.definitions import EventType
from features.engine.columns import Kind, kinds
from features.errors import SchemaChanged

Stored = Literal["int", "float", "text"]
"""The type of a column; whether a field may be null is the record's business."""

_STORED: Mapping[Kind, Stored] = {
    "int": "int",
    "nullable_int": "int",
    "float": "float",
    "text": "text",
}
_FOLLOW = (
    "a table keeps its fields: keep the old one and add another beside it, with a default, or "
    "declare a new event under another name (docs/how-to/change-an-event.md)"
)


def stored_types(event: EventType) -> dict[str, Stored]:
    """The type that each field of the event has in a table."""
    return {name: _STORED[kind] for name, kind in kinds(event.record).items()}


def added_fields(event: EventType, table: Mapping[str, str]) -> tuple[str, ...]:
    """The fields of the event that a table with the columns `table` (field -> type) lacks.

    Raises:
        SchemaChanged: rows of this event do not fit into it.
    """
    wanted = stored_types(event)
    if gone := sorted(table.keys() - wanted.keys()):
        raise _changed(event, gone[0], "is in its table and no longer in its record")
    for name in wanted.keys() & table.keys():
        if table[name] != wanted[name]:
            was = f"is {wanted[name]} in its record and {table[name]} in its table"
            raise _changed(event, name, was)
    added = tuple(name for name in wanted if name not in table)
    for name in added:
        _check_addable(event, name)
    return added


def filling(event: EventType) -> dict[str, Any]:
    """What a null in the table stands for, where the field itself cannot be null: its default.

    The row was stored before the field was added.
    """
    return {
        name: field.default
        for name, field in _fields(event.record).items()
        if field.default not in (msgspec.NODEFAULT, None) and not _nullable(field)
    }


def _check_addable(event: EventType, name: str) -> None:
    field = _fields(event.record)[name]
    if _nullable(field):
        if field.default not in (msgspec.NODEFAULT, None):
            raise _changed(event, name, "is new and may be null: then its default has to be null")
    elif field.default is msgspec.NODEFAULT:
        raise _changed(event, name, "is new and has no default: old rows have no value for it")


def _fields(record: type[msgspec.Struct]) -> dict[str, inspect.Field]:
    info = inspect.type_info(record)
    assert isinstance(info, inspect.StructType)
    return {field.name: field for field in info.fields}


def _nullable(field: inspect.Field) -> bool:
    found = field.type
    return isinstance(found, inspect.UnionType) and found.includes_none


def _changed(event: EventType, field: str, what: str) -> SchemaChanged:
    return SchemaChanged(f"event {event.name}: the field {field!r} {what}", hint=_FOLLOW)

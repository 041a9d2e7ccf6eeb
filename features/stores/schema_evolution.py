"""Which changes of an event's record its table in the offline store allows.

A field may be added if old rows have a value for it. That value is the field's default, which the
codec also gives to an old message. Every other change is refused, because old and new rows would
disagree: a field that was removed, renamed or got another type, or a new one without a default.
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
    return isinstance(field.type, inspect.UnionType) and field.type.includes_none


def _changed(event: EventType, field: str, reason: str) -> SchemaChanged:
    return SchemaChanged(event=event.name, field=field, reason=reason)

"""Which changes of an event's record its table in the offline store allows.

A field may be added if old rows have a value for it. That value is the field's default, which the
codec also gives to an old message. Every other change is refused, because old and new rows would
disagree: a field that was removed, renamed or got another type, or a new one without a default. A
field may become null; it must not cease to, since its table has nulls by then.

A column says less than a record: a truth value is stored as an integer, and every column may be
null. So a table remembers what its fields were declared as (`declared_types`). One of 0.1 does not;
there a null that is read in a field that is never null shows the change.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import inspect

from features.definitions import EventType
from features.definitions.field_types import may_be_null, value_type
from features.engine.columns import Kind, kinds
from features.errors import SchemaChanged

if TYPE_CHECKING:
    import polars as pl

Stored = Literal["int", "float", "text"]
"""The type of a column; whether a field may be null is the record's business."""

_OR_NULL = " or null"
_STORED: Mapping[Kind, Stored] = {
    "int": "int",
    "nullable_int": "int",
    "float": "float",
    "text": "text",
}


def stored_types(event: EventType) -> dict[str, Stored]:
    """The type that each field of the event has in a table."""
    return {name: _STORED[kind] for name, kind in kinds(event.record).items()}


def declared_types(event: EventType) -> dict[str, str]:
    """What each field of the event is declared as, for its table to remember."""
    record = event.record
    return {
        name: value_type(record, name) + (_OR_NULL if may_be_null(record, name) else "")
        for name in event.fields
    }


def check_declared(event: EventType, remembered: Mapping[str, str]) -> None:
    """Compare the event with the `declared_types` that its table remembers.

    Raises:
        SchemaChanged: a field is of another type, or was null before and cannot be null any more.
    """
    for name, declared in declared_types(event).items():
        before = remembered.get(name, declared)
        if declared not in (before, before + _OR_NULL):
            raise _changed(event, name, f"is {declared} in its record and {before} in its table")


def check_nulls(event: EventType, rows: "pl.DataFrame") -> None:
    """Check the rows of a table, which are filled (`filling`).

    Raises:
        SchemaChanged: a field that cannot be null is null.
    """
    for name in rows.columns:
        if name in event.fields and rows[name].null_count() and not may_be_null(event.record, name):
            raise _changed(event, name, "is never null in its record, and null in its table")


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
        if field.default not in (msgspec.NODEFAULT, None) and not may_be_null(event.record, name)
    }


def _check_addable(event: EventType, name: str) -> None:
    field = _fields(event.record)[name]
    if may_be_null(event.record, name):
        if field.default not in (msgspec.NODEFAULT, None):
            raise _changed(event, name, "is new and may be null: then its default has to be null")
    elif field.default is msgspec.NODEFAULT:
        raise _changed(event, name, "is new and has no default: old rows have no value for it")


def _fields(record: type[msgspec.Struct]) -> dict[str, inspect.Field]:
    info = inspect.type_info(record)
    assert isinstance(info, inspect.StructType)
    return {field.name: field for field in info.fields}


def _changed(event: EventType, field: str, reason: str) -> SchemaChanged:
    return SchemaChanged(event=event.name, field=field, reason=reason)

"""Which records and topics an event may have: what every store, and Kafka, can take."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import inspect

from features.definitions.field_types import NAMES, field_types, int_bounds, split_null
from features.definitions.validation import require, require_distinct

RESERVED_FIELDS = frozenset(
    {
        *("topic", "partition", "offset"),
        *("known_at_us", "ingest_time_us", "event_date"),
    }
)
"""Columns that the offline store adds to the fields of an event."""

_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")  # what Kafka takes


def check_topic_name(name: str, who: str) -> None:
    """Reports a name that Kafka does not take for a topic."""
    takes = _TOPIC.fullmatch(name) is not None and name not in (".", "..")
    require(takes, f"{who}: a topic's name has letters, digits, `.`, `_` and `-` only")


def check_record(record: type[msgspec.Struct], who: str, *, key: str) -> None:
    """Reports fields that cannot be stored, and a key that Kafka cannot take."""
    types = readable_types(record, who)
    for name in types:
        require(
            name.casefold() not in RESERVED_FIELDS,
            f"{who}: the field {name!r} has the name of a column that is added to every event",
            hint="give it another name",
        )
    require_distinct(types, f"{who}: several fields are called")
    for name, field_type in types.items():
        require(
            _word(field_type) is not None,
            f"{who}: the field {name!r} is neither text nor a number, or null",
        )
    for name in dict.fromkeys(("event_id", key)):
        _require_type(types, name, inspect.StrType, f"{who}: the key" if name == key else who)
    _require_type(types, "event_time_us", inspect.IntType, who)
    for name, field_type in types.items():
        plain, _ = split_null(field_type)
        low, high = int_bounds(plain) if isinstance(plain, inspect.IntType) else (0, 0)
        require(low <= high, f"{who}: no number lies in the bounds of {name!r}")
    if types:
        _check_plain_data(record, who)


def check_time(record: type[msgspec.Struct], field: str, who: str) -> None:
    """Reports a field that cannot be a time."""
    _require_type(readable_types(record, who), field, inspect.IntType, f"{who}: the time")


def readable_types(record: type[msgspec.Struct], who: str) -> Mapping[str, inspect.Type]:
    """The types of a record's fields, in order; none, with a report, if msgspec knows one of them
    not."""
    try:
        return field_types(record)
    except (TypeError, NameError, ValueError) as error:
        require(False, f"{who}: its record cannot be read: {error}")
        return {}


def _check_plain_data(record: type[msgspec.Struct], who: str) -> None:
    """Reports what makes a record depend on more than its message: it is decoded more than once."""
    require(
        not hasattr(record, "__post_init__"),
        f"{who}: its record runs code when it is read (`__post_init__`)",
        hint="declare bounds of its fields, or a `Check` of the event",
    )
    for field in msgspec.structs.fields(record):
        require(
            field.default_factory is msgspec.NODEFAULT,
            f"{who}: the default of {field.name!r} is made by a function, again each time",
            hint="give it a constant",
        )
        require(
            field.default is msgspec.NODEFAULT or _fits(field.default, field.type),
            f"{who}: the default of {field.name!r} is {field.default!r}, and no value of its type",
        )


def _fits(value: Any, type_: Any) -> bool:
    try:
        msgspec.convert(value, type_)
    except msgspec.ValidationError:
        return False
    return value is not msgspec.UNSET


def _require_type(
    types: Mapping[str, inspect.Type], name: str, wanted: type[inspect.Type], who: str
) -> None:
    if name in types and not isinstance(types[name], wanted):
        nullable = isinstance(types[name], inspect.UnionType)
        is_ = f"{_word(types[name])}{' or null' if nullable else ''}"
        require(False, f"{who}: {name!r} is {is_}, it has to be {NAMES[wanted]} that is never null")


def _word(of: inspect.Type) -> str | None:
    """What a field holds beside null; None for what cannot be stored."""
    plain, _ = split_null(of)
    return None if plain is None else NAMES.get(type(plain))

"""Which records and topics an event may have: what every store, and Kafka, can take."""

import math
import re
from collections.abc import Mapping

import msgspec
from msgspec import inspect

from features.definitions.validation import require, require_distinct

RESERVED_FIELDS = frozenset(
    {
        *("topic", "partition", "offset"),
        *("known_at_us", "ingest_time_us", "event_date"),
    }
)
"""Columns that the offline store adds to the fields of an event."""

_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")  # what Kafka takes
_NAMES: Mapping[type[inspect.Type], str] = {
    inspect.StrType: "text",
    inspect.IntType: "a whole number",
    inspect.FloatType: "a number",
    inspect.BoolType: "a truth value",
}


def check_topic_name(name: str, who: str) -> None:
    """Reports a name that Kafka does not take for a topic."""
    takes = _TOPIC.fullmatch(name) is not None and name not in (".", "..")
    require(takes, f"{who}: a topic's name has letters, digits, `.`, `_` and `-` only")


def check_record(record: type[msgspec.Struct], who: str, *, key: str) -> None:
    """Reports fields that cannot be stored, and a key that Kafka cannot take."""
    types = field_types(record, who)
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


def check_time(record: type[msgspec.Struct], field: str, who: str) -> None:
    """Reports a field that cannot be a time."""
    _require_type(field_types(record, who), field, inspect.IntType, f"{who}: the time")


def field_types(record: type[msgspec.Struct], who: str) -> Mapping[str, inspect.Type]:
    """The types of a record's fields, in order; none, with a report, if msgspec knows one of them
    not."""
    try:
        info = inspect.type_info(record)
    except (TypeError, NameError) as error:
        require(False, f"{who}: its record cannot be read: {error}")
        return {}
    assert isinstance(info, inspect.StructType)
    return {field.name: field.type for field in info.fields}


def type_without_null(of: inspect.Type) -> inspect.Type:
    """The type of a field's values that are not null."""
    if not isinstance(of, inspect.UnionType):
        return of
    return next(t for t in of.types if not isinstance(t, inspect.NoneType))


def int_bounds(of: inspect.IntType) -> tuple[float, float]:
    """The smallest and the largest number of a type; infinite where it is not declared."""
    low = of.ge if of.ge is not None else of.gt + 1 if of.gt is not None else -math.inf
    high = of.le if of.le is not None else of.lt - 1 if of.lt is not None else math.inf
    return low, high


def fits_64_bits(low: float, high: float) -> bool:
    """Whether all numbers from `low` to `high` are signed 64-bit integers."""
    return low >= -(2**63) and high < 2**63


def _require_type(
    types: Mapping[str, inspect.Type], name: str, wanted: type[inspect.Type], who: str
) -> None:
    if name in types and not isinstance(types[name], wanted):
        nullable = isinstance(types[name], inspect.UnionType)
        is_ = f"{_word(types[name])}{' or null' if nullable else ''}"
        require(
            False, f"{who}: {name!r} is {is_}, it has to be {_NAMES[wanted]} that is never null"
        )


def _word(field_type: inspect.Type) -> str | None:
    """What a field holds beside null; None for what cannot be stored."""
    if isinstance(field_type, inspect.UnionType):
        parts = [t for t in field_type.types if not isinstance(t, inspect.NoneType)]
        return _NAMES.get(type(parts[0])) if len(parts) == 1 else None
    return _NAMES.get(type(field_type))

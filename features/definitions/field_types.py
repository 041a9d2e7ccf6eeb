"""What the fields of records hold: the one place that reads msgspec's description of a record."""

import math
from collections.abc import Mapping
from functools import cache

import msgspec
from msgspec import inspect

NAMES: Mapping[type[inspect.Type], str] = {
    inspect.StrType: "text",
    inspect.IntType: "a whole number",
    inspect.FloatType: "a number",
    inspect.BoolType: "a truth value",
}
"""The types that a field may have beside null, in words."""

FLOAT, TRUTH_VALUE = NAMES[inspect.FloatType], NAMES[inspect.BoolType]


@cache
def field_types(record: type[msgspec.Struct]) -> Mapping[str, inspect.Type]:
    """The type of each field of a record, in order.

    Raises:
        TypeError, NameError, ValueError: msgspec does not know one of them, or its bounds.
    """
    info = inspect.type_info(record)
    assert isinstance(info, inspect.StructType)
    return {field.name: field.type for field in info.fields}


def split_null(of: inspect.Type) -> tuple[inspect.Type | None, bool]:
    """The type without null (None: there are several), and whether null is a value."""
    if not isinstance(of, inspect.UnionType):
        return of, False
    parts = [t for t in of.types if not isinstance(t, inspect.NoneType)]
    return parts[0] if len(parts) == 1 else None, len(parts) < len(of.types)


def value_type(record: type[msgspec.Struct], field: str) -> str:
    """What a field holds beside null, in words."""
    plain, _ = split_null(field_types(record)[field])
    return NAMES.get(type(plain), "something else")  # type: ignore[arg-type]  # None has no name


def may_be_null(record: type[msgspec.Struct], field: str) -> bool:
    """Whether null is a value of the field."""
    return split_null(field_types(record)[field])[1]


def int_bounds(of: inspect.IntType) -> tuple[float, float]:
    """The smallest and the largest number of a type; infinite where it is not declared."""
    low = of.ge if of.ge is not None else of.gt + 1 if of.gt is not None else -math.inf
    high = of.le if of.le is not None else of.lt - 1 if of.lt is not None else math.inf
    return low, high

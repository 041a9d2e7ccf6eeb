"""What the fields of records hold, as far as declarations compare it."""

from collections.abc import Mapping
from functools import cache

import msgspec
from msgspec import inspect

_WORDS: Mapping[type[inspect.Type], str] = {
    inspect.StrType: "text",
    inspect.IntType: "a whole number",
    inspect.FloatType: "a number",
    inspect.BoolType: "a truth value",
}
FLOAT, TRUTH_VALUE = _WORDS[inspect.FloatType], _WORDS[inspect.BoolType]


def value_type(record: type[msgspec.Struct], field: str) -> str:
    """What a field holds beside null, in words."""
    parts = [t for t in _parts(record, field) if not isinstance(t, inspect.NoneType)]
    return _WORDS.get(type(parts[0]), "something else") if len(parts) == 1 else "something else"


def may_be_null(record: type[msgspec.Struct], field: str) -> bool:
    """Whether null is a value of the field."""
    return any(isinstance(t, inspect.NoneType) for t in _parts(record, field))


@cache
def _parts(record: type[msgspec.Struct], field: str) -> tuple[inspect.Type, ...]:
    info = inspect.type_info(record)
    assert isinstance(info, inspect.StructType)
    type_ = next(f.type for f in info.fields if f.name == field)
    return type_.types if isinstance(type_, inspect.UnionType) else (type_,)

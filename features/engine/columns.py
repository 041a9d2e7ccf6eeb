"""From records to columns, and from fields to entity keys: the same online and in history."""

from collections.abc import Mapping, Sequence
from functools import cache
from operator import attrgetter
from types import NoneType
from typing import Any, Literal, cast

import msgspec
import numpy as np
from msgspec import inspect
from numpy.typing import NDArray

from features.definitions import Entity, Int64Array
from features.definitions.field_types import field_types, split_null
from features.engine.numbers import EXACT_IN_FLOATS
from features.errors import DeclarationError

Kind = Literal["int", "nullable_int", "float", "text"]
"""How a field looks in an array of the engine: int64, masked int64, float64 with NaN for null, or
objects that are str or None. A formula is given float64 with NaN for a nullable integer."""

_SEPARATOR = "\x1f"  # between the parts of an entity's key
_DTYPES: Mapping[Kind, type] = {
    "int": np.int64,
    "nullable_int": np.float64,
    "float": np.float64,
    "text": object,
}


@cache
def kinds(record: type[msgspec.Struct]) -> Mapping[str, Kind]:
    """The kind of each field of a record, in order.

    Raises:
        DeclarationError: a field is neither text nor a number.
    """
    return {name: _kind(record.__name__, name, of) for name, of in field_types(record).items()}


@cache
def never_null(record: type[msgspec.Struct]) -> frozenset[str]:
    """The fields that a record declares without null; only a check can make one null."""
    return frozenset(n for n, of in field_types(record).items() if not _plain_kind(of)[1])


@cache
def may_be_wide(record: type[msgspec.Struct], field: str, limit: int = EXACT_IN_FLOATS) -> bool:
    """Whether a field is an integer whose bounds allow more than a limit; by default 2^53, up to
    which floats are exact."""
    plain, _ = split_null(field_types(record)[field])
    return isinstance(plain, inspect.IntType) and _is_wide(plain, limit)


def dtype_of(kind: Kind) -> type:
    """The numpy type of a kind."""
    return _DTYPES[kind]


def field_tuples(records: Sequence[msgspec.Struct], fields: Sequence[str]) -> dict[str, Any]:
    """Field name -> tuple of its values, one for each record."""
    if not records or len(fields) < 2:
        return {f: tuple(getattr(r, f) for r in records) for f in fields}
    return dict(zip(fields, zip(*map(attrgetter(*fields), records), strict=True), strict=True))


def array_of(values: Sequence[Any], kind: Kind) -> NDArray[Any]:
    """The array that the engine computes with: integers are exact, and masked where they are null.

    A check may have nullified a value of any kind. The array of a nullable integer is always
    masked, that of another one only where there is a null.
    """
    if kind == "nullable_int":
        return _masked_integers(values)
    try:
        return np.array(values, dtype=_DTYPES[kind])
    except TypeError:  # numpy makes no integer of None
        return _masked_integers(values)


def arrays_of(
    tuples: Mapping[str, Sequence[Any]], record: type[msgspec.Struct], fields: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """The arrays of the given fields, as the engine computes with them."""
    field_kinds = kinds(record)
    return {f: array_of(tuples[f], field_kinds[f]) for f in fields}


def entity_keys(entity: Entity, tuples: Mapping[str, Sequence[Any]]) -> list[str | None]:
    """The entity of each row: its key fields, joined; None where one of them is null.

    Different keys have different texts, and a truth value that of its number, which the offline
    store has in its place.
    """
    columns = [_key_texts(tuples[key]) for key in entity.keys]
    if len(columns) == 1:
        return list(columns[0])
    return [_joined(row) for row in zip(*columns, strict=True)]


def encode_keys(keys: Sequence[str | None]) -> tuple[list[bytes], Int64Array]:
    """The distinct keys as bytes, and for each row the index of its own; -1 for None."""
    index = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    codes = np.fromiter(map(index.__getitem__, keys), np.int64, len(keys))
    if None in index:
        none = index.pop(None)
        codes = np.where(codes == none, -1, codes - (codes > none))
    return [k.encode() for k in index if k is not None], codes


def _key_texts(keys: Sequence[Any]) -> Sequence[str | None]:
    if {*map(type, keys)} <= {str, NoneType}:
        return keys
    return [None if k is None else str(int(k)) if type(k) is bool else str(k) for k in keys]


def _joined(parts: Sequence[str | None]) -> str | None:
    """The parts with separators between them; a part that holds the separator says how long it is,
    and more separators in front than any other key of this entity has say that."""
    if None in parts:
        return None
    texts = cast("Sequence[str]", parts)
    joined = _SEPARATOR.join(texts)
    if joined.count(_SEPARATOR) == len(texts) - 1:
        return joined
    return _SEPARATOR * len(texts) + "".join(f"{len(text)}:{text}" for text in texts)


def _masked_integers(values: Sequence[Any]) -> NDArray[Any]:
    floats = np.array(values, np.float64)  # None becomes NaN
    missing = np.isnan(floats)
    if (np.abs(floats[~missing]) < EXACT_IN_FLOATS).all():
        known = np.where(missing, 0, floats).astype(np.int64)
    else:
        known = np.array([0 if v is None else v for v in values], np.int64)
    return np.ma.MaskedArray(known, mask=missing)


def _is_wide(integer: inspect.IntType, limit: int) -> bool:
    lowest = integer.gt if integer.ge is None else integer.ge
    highest = integer.lt if integer.le is None else integer.le
    if lowest is None or highest is None:
        return True
    return lowest < -limit or highest > limit


def _kind(record: str, field: str, of: inspect.Type) -> Kind:
    kind, nullable = _plain_kind(of)
    if kind is None:
        raise DeclarationError(f"{record}.{field}: a field is text or a number, or null")
    return "nullable_int" if kind == "int" and nullable else kind


def _plain_kind(field_type: inspect.Type) -> tuple[Kind | None, bool]:
    """The kind of a type without null (None: it has none), and whether null is allowed."""
    plain, nullable = split_null(field_type)
    match plain:
        case inspect.StrType():
            return "text", nullable
        case inspect.FloatType():
            return "float", nullable
        case inspect.IntType() | inspect.BoolType():
            return "int", nullable
        case _:
            return None, nullable

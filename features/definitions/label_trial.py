"""Tries the `value` of a label on made-up events, so that a wrong type shows where it is declared.

A value that raises here is judged when it meets events: made-up ones may not be what it expects.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import inspect
from numpy.typing import NDArray

from features.definitions.events import Columns
from features.definitions.field_types import field_types, split_null


def untrue_value(
    value: Callable[[Columns], NDArray[Any]], record: type[msgspec.Struct], reads: Sequence[str]
) -> Any:
    """A value that is neither true, false, 0 nor 1, if made-up events of the record lead to one."""
    types = field_types(record)
    samples = {name: _sample(types[name]) for name in reads if name in types}
    columns = {name: _array(sample) for name, sample in samples.items() if sample is not None}
    if columns.keys() != set(reads):
        return None
    try:
        with np.errstate(all="ignore"):
            values = np.asarray(value(columns))
        return untrue(values)
    except Exception:  # noqa: BLE001  # any formula may raise on events that it does not expect
        return None


def untrue(values: NDArray[Any]) -> Any:
    """The first of the values of a label that is neither true, false, 0, 1 nor null; else None."""
    return next((v for v in values.tolist() if not (_is_null(v) or _is_truth(v))), None)


def _is_truth(value: Any) -> bool:
    return isinstance(value, int | float) and value in (0, 1)


def _is_null(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _array(values: Sequence[Any]) -> NDArray[Any]:
    return np.array(values, dtype=object if isinstance(values[0], str) else None)


def _sample(of: inspect.Type) -> tuple[Any, ...] | None:
    """Two values of a type, within its bounds; None for types that no array holds."""
    kind, _ = split_null(of)
    match kind:
        case inspect.BoolType():
            return (0, 1)
        case inspect.StrType():
            return ("some text", "another")
        case inspect.IntType():
            return _within(kind, -257, 257)
        case inspect.FloatType():
            low, high = _within(kind, -257, 257)
            return (low + 0.25, high - 0.25) if high - low > 1 else (float(low), float(high))
        case _:
            return None


def _within(kind: inspect.IntType | inspect.FloatType, low: int, high: int) -> tuple[Any, Any]:
    """`low` and `high`, moved into the bounds of the type."""
    lower = kind.ge if kind.ge is not None else (None if kind.gt is None else kind.gt + 1)
    upper = kind.le if kind.le is not None else (None if kind.lt is None else kind.lt - 1)
    first = low if lower is None else max(low, lower)
    last = high if upper is None else min(high, upper)
    return (first, max(first, last)) if lower is not None else (min(first, last), last)

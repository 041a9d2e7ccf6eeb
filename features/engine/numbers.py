"""Numbers as int64 that sort as they do, and functions as texts: what stored state is made of."""

from collections.abc import Callable
from types import CodeType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.definitions.events import Float64Array, Int64Array
from features.engine.sorting import HIGHEST, UNSET


def sortable(values: NDArray[Any], *, missing: int = UNSET) -> Int64Array:
    """Numbers as int64 that sort as the numbers do and keep every bit; NaN becomes `missing`.

    A float's bits, with those of negative numbers turned round. UNSET sorts below every number, so
    of events at one time a value wins over none; HIGHEST above every number.
    """
    floats = np.asarray(values, np.float64)
    return np.where(np.isnan(floats), missing, _turned(floats.view(np.int64)))


def from_sortable(values: Int64Array) -> Float64Array:
    """The numbers that `sortable` was given; NaN for UNSET and HIGHEST."""
    missing = (values == UNSET) | (values == HIGHEST)
    return np.where(missing, np.nan, _turned(values).view(np.float64))


def whole(values: NDArray[Any]) -> Int64Array:
    """Integers and truth values as int64."""
    return np.asarray(values).astype(np.int64, copy=False)


def fingerprint(function: Callable[..., Any]) -> str:
    """A text that changes when a function's code, constants or captured values change."""
    code = getattr(function, "__code__", None)
    if code is None:
        return repr(function)
    captured = [c.cell_contents for c in getattr(function, "__closure__", None) or ()]
    return repr((_code(code), [fingerprint(c) if callable(c) else repr(c) for c in captured]))


def _turned(bits: Int64Array) -> Int64Array:
    turned: Int64Array = bits ^ ((bits >> 63) & np.iinfo(np.int64).max)
    return turned


def _code(code: CodeType) -> tuple[object, ...]:
    constants = [_code(c) if isinstance(c, CodeType) else c for c in code.co_consts]
    return (code.co_code, constants, code.co_names)

"""Numbers as int64 that sort as the numbers do: the columns of the stored state."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.definitions.events import Float64Array, Int64Array
from features.engine.sorting import HIGHEST, UNSET


def sortable(values: NDArray[Any], *, missing: int = UNSET) -> Int64Array:
    """Numbers as int64 that sort as the numbers do, without losing a bit; NaN becomes `missing`.

    The bits of a float64, complemented but for the sign where it is negative. UNSET sorts below
    every number, so that of two events at one time a value wins over null; HIGHEST above.
    """
    floats = np.asarray(values, np.float64)
    return np.where(np.isnan(floats), missing, _ordered_bits(floats.view(np.int64)))


def from_sortable(values: Int64Array) -> Float64Array:
    """The numbers that `sortable` was given; NaN for UNSET and HIGHEST."""
    missing = (values == UNSET) | (values == HIGHEST)
    return np.where(missing, np.nan, _ordered_bits(values).view(np.float64))


def whole(values: NDArray[Any]) -> Int64Array:
    """Integers and truth values as int64."""
    return np.asarray(values).astype(np.int64, copy=False)


def _ordered_bits(bits: Int64Array) -> Int64Array:
    ordered: Int64Array = bits ^ ((bits >> 63) & np.iinfo(np.int64).max)
    return ordered

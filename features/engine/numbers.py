"""Numbers as int64 that sort or compare as the numbers do: the columns of the stored state.

The engine holds integers that may be null as masked arrays of int64, so that they stay exact; a
formula of a declaration is given float64 with NaN in their place.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.definitions.events import BoolArray, Columns, Float64Array, Int64Array
from features.engine.sorting import HIGHEST, UNSET

EXACT_IN_FLOATS = 1 << 53
"""Up to here every whole number is a float64 of its own."""

LARGEST = int(np.iinfo(np.int64).max)
"""The largest integer of 64 bits."""

INVALID = UNSET + 1
"""In a sum column: the event has a value that the column cannot hold, so its sums have none."""

_CODE_OF_UNSET = -1  # the code of -0.0, which is no integer


def nulls(values: NDArray[Any]) -> BoolArray:
    """Where an array of the engine has no value."""
    if isinstance(values, np.ma.MaskedArray):
        masked: BoolArray = np.ma.getmaskarray(values)
        return masked
    if values.dtype.kind == "f":
        missing: BoolArray = np.isnan(values)
        return missing
    if values.dtype == object:
        return np.array([v is None for v in values.tolist()], bool)
    return np.zeros(len(values), bool)


def as_engine_array(result: Any) -> NDArray[Any]:
    """What a formula gave, as an array of the engine: a masked value is null, and numbers with
    fractions have 64 bits, so that no arithmetic with them overflows earlier."""
    values = np.asarray(result)
    mask = np.ma.getmaskarray(result) if isinstance(result, np.ma.MaskedArray) else None
    if values.dtype.kind == "f":
        values = values.astype(np.float64, copy=False)
    if mask is None:
        return values
    if values.dtype.kind in "biu":
        return np.ma.MaskedArray(whole(values), mask=mask)
    null: Any = np.nan if values.dtype.kind == "f" else None
    return np.where(mask, null, values)


def as_formula_input(values: NDArray[Any]) -> NDArray[Any]:
    """The array that a formula is given: float64 with NaN for integers that may be null."""
    if not isinstance(values, np.ma.MaskedArray):
        return values
    return np.where(np.ma.getmaskarray(values), np.nan, values.data)


def as_formula_inputs(columns: Columns) -> dict[str, NDArray[Any]]:
    """The arrays that a formula is given for these columns of the engine."""
    return {name: as_formula_input(values) for name, values in columns.items()}


def whole(values: NDArray[Any], *, missing: int = UNSET) -> Int64Array:
    """Whole numbers as int64, exactly; `missing` for what is null, not whole or beyond 64 bits."""
    if isinstance(values, np.ma.MaskedArray):
        return np.where(nulls(values), missing, whole(values.data, missing=missing))
    if values.dtype.kind in "bi":
        return values.astype(np.int64, copy=False)
    if values.dtype.kind == "u":
        fits = values <= LARGEST
    else:
        values = values.astype(np.float64, copy=False)
        with np.errstate(invalid="ignore"):
            fits = (np.abs(values) < 2.0**63) & (np.rint(values) == values)
    return np.where(fits, np.where(fits, values, 0).astype(np.int64), missing)


def sortable(values: NDArray[Any], *, missing: int = UNSET) -> Int64Array:
    """Numbers as int64 that sort as the numbers do, as float64; null becomes `missing`.

    The bits of a float64, complemented but for the sign where it is negative. UNSET sorts below
    every number, so that of two events at one time a value wins over null; HIGHEST above.
    """
    floats = np.asarray(as_formula_input(values), np.float64)
    return np.where(np.isnan(floats), missing, _ordered_bits(floats.view(np.int64)))


def from_sortable(values: Int64Array) -> Float64Array:
    """The numbers that `sortable` was given; NaN for UNSET and HIGHEST."""
    missing = (values == UNSET) | (values == HIGHEST)
    return np.where(missing, np.nan, _ordered_bits(values).view(np.float64))


def number_codes(values: NDArray[Any]) -> Int64Array:
    """Numbers as int64 that are equal where the numbers are; UNSET for null.

    Integers keep all their 64 bits. Up to 2^53 the code is that of the same float64.
    """
    if isinstance(values, np.ma.MaskedArray):
        return np.where(nulls(values), UNSET, number_codes(values.data))
    if values.dtype.kind == "f":
        return sortable(values + 0.0)  # -0.0 is 0.0
    integers = values.astype(np.int64, copy=False)
    codes = sortable(integers)
    wide = (integers > EXACT_IN_FLOATS) | (integers < -EXACT_IN_FLOATS)
    if wide.any():
        codes[wide] = _swapped(integers[wide])
        codes[integers == UNSET] = _CODE_OF_UNSET  # UNSET itself stands for null
    return codes


def integers_of_codes(codes: Int64Array) -> Int64Array:
    """The integers that `number_codes` was given."""
    integers = number_codes(codes)  # each has changed places with its code
    return np.where(codes == _CODE_OF_UNSET, UNSET, integers)


def _swapped(wide: Int64Array) -> Int64Array:
    """The codes of integers beyond 2^53: themselves, or if that is the code of a smaller integer,
    that integer. So the codes are a permutation of the integers, in which each of those up to 2^53
    has changed places with its code."""
    floats = _ordered_bits(wide).view(np.float64)
    with np.errstate(invalid="ignore"):  # some are no number
        taken = (np.abs(floats) <= EXACT_IN_FLOATS) & (np.rint(floats) == floats)
    return np.where(taken, np.where(taken, floats, 0).astype(np.int64), wide)


def _ordered_bits(bits: Int64Array) -> Int64Array:
    ordered: Int64Array = bits ^ ((bits >> 63) & np.iinfo(np.int64).max)
    return ordered

"""Sums of 64-bit integers that never wrap round: they are exact at any size.

A sum column holds UNSET where a row has no value, and INVALID where it has one that does not fit.
The sum of merged rows has to fit into a column,
so rows whose sum would not are not merged. Over rows, sums that may leave 64 bits are added up in
two halves.
"""

from collections.abc import Sequence

import numpy as np

from features.definitions.events import Float64Array, Int64Array
from features.engine.numbers import INVALID, LARGEST

_HALF = 32


def never_leave(table: Int64Array) -> bool:
    """Whether no sum of rows of the table leaves 64 bits, and none of its cells is a mark."""
    if not table.size:
        return True
    lowest, highest = int(table.min()), int(table.max())
    return lowest > INVALID and len(table) * max(highest, -lowest) < LARGEST


def halves(values: Int64Array) -> tuple[Int64Array, Int64Array]:
    """The upper and the lower 32 bits: the sums of each fit for up to 2^31 rows."""
    return values >> _HALF, values & ((1 << _HALF) - 1)


def joined(upper: Int64Array, lower: Int64Array) -> Float64Array:
    """The sums whose halves these are, as the nearest float64."""
    wholes = zip(upper.tolist(), lower.tolist(), strict=True)
    return np.array([float((u << _HALF) + low) for u, low in wholes], np.float64)


def runs_that_fit(columns: Sequence[Int64Array], starts: Int64Array) -> Int64Array:
    """Where runs begin so that the sum of each column over a run fits into 64 bits."""
    known = [np.where(values <= INVALID, 0, values) for values in columns]
    if all(never_leave(values) for values in known):
        return starts
    tables = np.column_stack(known).tolist()
    beginnings = set(starts.tolist())
    totals = [0] * len(columns)
    for i, row in enumerate(tables):
        added = [total + value for total, value in zip(totals, row, strict=True)]
        if i in beginnings or not all(INVALID < total <= LARGEST for total in added):
            beginnings.add(i)
            added = row
        totals = added
    return np.array(sorted(beginnings), np.int64)

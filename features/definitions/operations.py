"""The aggregation operations: everything that is known about one stands in its record here.

A new operation is one more record in `_ALL`, and its name in `OperationName` (for type checkers).
It is computed from what the engine offers over the events of one window (`WindowAggregates`), so
the engine, the views and the pages follow without a change.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from features.definitions.events import Float64Array, Int64Array

OperationName = Literal[
    "count",
    "sum",
    "mean",
    "rate",
    "min",
    "max",
    "first",
    "last",
    "change",
    "distinct",
    "since_first",
    "since_last",
]

StateColumnKind = Literal["sum", "number", "lowest", "highest", "code"]
"""What is kept of a column for an operation, and how it is merged when several events become one
row.

sum: whole numbers, added. number: 1 where the event has a value, added. lowest, highest: numbers,
of which the smaller or the larger one stays. code: a value's identity; rows of different codes are
never merged.
"""


class Sums(Protocol):
    """Sums over the events that count for each query. All arrays have one value a query."""

    def count(self) -> Int64Array:
        """Number of events."""
        ...

    def total(self, column: str) -> NDArray[Any]:
        """Sum of a declared column, in its unit: float64 if the column has a scale, else int64."""
        ...

    def count_of(self, column: str) -> Int64Array:
        """Number of events that have a value in a declared column."""
        ...


class WindowAggregates(Sums, Protocol):
    """What can be computed over the events in the window of each query.

    All arrays have one value a query; NaN where the window is empty.
    """

    def oldest(self, column: str) -> Float64Array:
        """The column's value of the event with the smallest event time; on a tie the smallest."""
        ...

    def newest(self, column: str) -> Float64Array:
        """The column's value of the event with the largest event time; on a tie the largest."""
        ...

    def minutes_since_oldest(self) -> Float64Array:
        """Minutes from the oldest event to the query."""
        ...

    def minutes_since_newest(self) -> Float64Array:
        """Minutes from the newest event to the query."""
        ...

    def smallest(self, column: str) -> Float64Array:
        """The smallest value of a column."""
        ...

    def largest(self, column: str) -> Float64Array:
        """The largest value of a column."""
        ...

    def distinct(self, column: str) -> Int64Array:
        """Number of different values of a column; null is not a value. 0 where there are none."""
        ...


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One way to compute a number from the events in a window.

    `meaning`: in plain words, with `{column}` where the column's name goes. `if_empty`: its value
    without events. `compute(aggregates, column)`: the values, one a query; `column` is "" for an
    operation that takes none. `keeps`: what the online state keeps of the column.
    `uses_event_time`: the value depends on the very time of an event, so the state must not round
    it to the window's hop.
    """

    name: OperationName
    meaning: str
    if_empty: str
    compute: Callable[[WindowAggregates, str], NDArray[Any]]
    keeps: tuple[StateColumnKind, ...] = ()
    takes_column: bool = True
    uses_event_time: bool = False

    @property
    def adds_up(self) -> bool:
        """Whether it adds up its column, which must then be a declared column of integers."""
        return "sum" in self.keeps


@dataclass(frozen=True, kw_only=True)
class SumOperation(Operation):
    """An operation that sums alone are enough for; only these are possible over calendar spans."""

    compute: Callable[[Sums, str], NDArray[Any]]


def listed(names: Iterable[str]) -> str:
    """`a, b and c`."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _mean(sums: Sums, column: str) -> Float64Array:
    count = sums.count_of(column)
    return np.where(count > 0, sums.total(column) / np.maximum(count, 1), np.nan)


def _change(window: WindowAggregates, column: str) -> Float64Array:
    with np.errstate(over="ignore", invalid="ignore"):  # infinite values have no difference
        return window.newest(column) - window.oldest(column)


_ALL: tuple[Operation, ...] = (
    SumOperation(
        name="count",
        meaning="number of events",
        if_empty="0 if there are none",
        takes_column=False,
        compute=lambda sums, _: sums.count(),
    ),
    SumOperation(
        name="sum",
        meaning="sum of {column}",
        if_empty="0 if there are no events",
        keeps=("sum",),
        compute=lambda sums, column: sums.total(column),
    ),
    SumOperation(
        name="mean",
        meaning="mean of {column}",
        if_empty="null if there are no events",
        keeps=("sum",),
        compute=_mean,
    ),
    SumOperation(
        name="rate",
        meaning="share of events with {column}",
        if_empty="null if there are no events",
        keeps=("sum",),
        compute=_mean,
    ),
    Operation(
        name="min",
        meaning="smallest {column}",
        if_empty="null if there is none",
        keeps=("lowest",),
        compute=lambda window, column: window.smallest(column),
    ),
    Operation(
        name="max",
        meaning="largest {column}",
        if_empty="null if there is none",
        keeps=("highest",),
        compute=lambda window, column: window.largest(column),
    ),
    Operation(
        name="first",
        meaning="{column} of the oldest event",
        if_empty="null if there is no event or it has none",
        keeps=("lowest",),
        uses_event_time=True,
        compute=lambda window, column: window.oldest(column),
    ),
    Operation(
        name="last",
        meaning="{column} of the newest event",
        if_empty="null if there is no event or it has none",
        keeps=("highest",),
        uses_event_time=True,
        compute=lambda window, column: window.newest(column),
    ),
    Operation(
        name="change",
        meaning="{column} of the newest event minus that of the oldest",
        if_empty="null if either has none",
        keeps=("lowest", "highest"),
        uses_event_time=True,
        compute=_change,
    ),
    Operation(
        name="distinct",
        meaning="number of different values of {column}",
        if_empty="0 if there are none",
        keeps=("code",),
        compute=lambda window, column: window.distinct(column),
    ),
    Operation(
        name="since_first",
        meaning="minutes since the oldest event",
        if_empty="null if there are no events",
        takes_column=False,
        uses_event_time=True,
        compute=lambda window, _: window.minutes_since_oldest(),
    ),
    Operation(
        name="since_last",
        meaning="minutes since the newest event",
        if_empty="null if there are no events",
        takes_column=False,
        uses_event_time=True,
        compute=lambda window, _: window.minutes_since_newest(),
    ),
)

OPERATIONS: Mapping[str, Operation] = {operation.name: operation for operation in _ALL}
"""Every operation by its name."""

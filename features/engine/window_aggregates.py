"""Implements what operations are computed from (`features.definitions.operations`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.definitions.events import BoolArray, Float64Array, Int64Array
from features.engine.merge_tree import MergeTree
from features.engine.numbers import from_sortable
from features.engine.point_in_time import PointInTimeIndex
from features.engine.queries import SlidingWindow
from features.engine.rows import PointInTimeRows
from features.engine.selections import SelectedRows, newest_rows, oldest_rows
from features.engine.sorting import UNSET
from features.engine.state_columns import StateColumn, column_name
from features.engine.window_sums import WindowSums, distinct_count
from infra.clock import MINUTE


@dataclass(frozen=True)
class SumTable:
    """The layout of a table of everything that is added up: the count of events is column 0."""

    columns: tuple[StateColumn, ...]

    @cached_property
    def place(self) -> Mapping[str, int]:
        """Where each added state column stands in the table."""
        return {name: i for i, name in enumerate(self._names, start=1)}

    @cached_property
    def scales(self) -> Mapping[str, int | None]:
        """The scale of each declared column."""
        return {c.of: c.declared.scale for c in self.columns if c.declared is not None}

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns if c.kind in ("sum", "number"))

    def of(self, rows: PointInTimeRows) -> Int64Array:
        """The table of these rows: (rows, columns of the table)."""
        return np.column_stack([rows.counts, *(rows.columns[name] for name in self._names)])


class TableSums:
    """`operations.Sums`, from the totals of a table: (queries, columns of the table)."""

    def __init__(self, table: SumTable, totals: Callable[[], Int64Array]) -> None:
        self._table, self._make_totals = table, totals

    def count(self) -> Int64Array:
        """Number of events."""
        return self._totals[:, 0]

    def total(self, column: str) -> NDArray[Any]:
        """Sum of a declared column, in its unit."""
        total = self._totals[:, self._table.place[column_name("sum", column)]]
        scale = self._table.scales[column]
        return total if scale is None else total / scale

    def count_of(self, column: str) -> Int64Array:
        """Number of events that have a value in a declared column."""
        return self._totals[:, self._table.place.get(column_name("number", column), 0)]

    @cached_property
    def _totals(self) -> Int64Array:
        return self._make_totals()


class SharedLookups:
    """What the windows of one view have in common, computed once and only if it is needed."""

    def __init__(self, index: PointInTimeIndex, table: SumTable) -> None:
        self.index, self.table = index, table

    def sums_over(self, window: SlidingWindow) -> Int64Array:
        """The sums of the table over a window."""
        return self._sums.over(window)

    def lowest(self, ranked: Int64Array, start: Int64Array) -> Int64Array:
        """The row with the smallest of `ranked` and key >= start of each query; -1 for none."""
        return MergeTree(self.index).lowest(ranked, start)

    def distinct(self, codes: Int64Array, window: SlidingWindow) -> Int64Array:
        """How many different codes the rows in a window have."""
        return distinct_count(self.index, codes, window)

    @cached_property
    def newest(self) -> SelectedRows:
        """The newest row of each query, whatever its age."""
        return newest_rows(self.index)

    @cached_property
    def _sums(self) -> WindowSums:
        return WindowSums(self.index, self.table.of(self.index.rows))


class RowsInWindow(TableSums):
    """`operations.WindowAggregates`, over the rows in one window of each query."""

    def __init__(self, shared: SharedLookups, window: SlidingWindow) -> None:
        super().__init__(shared.table, lambda: shared.sums_over(window))
        self._shared, self._index, self._window = shared, shared.index, window
        self._as_of_us = shared.index.queries.as_of_us

    def newest(self, column: str) -> Float64Array:
        """The column's value of the newest event."""
        values = self._shared.newest.max_of(column_name("highest", column))
        return np.where(self._has_newest, from_sortable(values), np.nan)

    def oldest(self, column: str) -> Float64Array:
        """The column's value of the oldest event."""
        # In the complement the smallest is the largest, and null (HIGHEST) is UNSET.
        return from_sortable(~self._oldest.max_of(column_name("lowest", column), negated=True))

    def minutes_since_newest(self) -> Float64Array:
        """Minutes from the newest event to the query."""
        return self._minutes_since(self._shared.newest, self._has_newest)

    def minutes_since_oldest(self) -> Float64Array:
        """Minutes from the oldest event to the query."""
        return self._minutes_since(self._oldest, self._oldest.exists)

    def smallest(self, column: str) -> Float64Array:
        """The smallest value of a column."""
        values = self._index.rows.columns[column_name("lowest", column)]
        return self._value_of_lowest(values, ranked=values)

    def largest(self, column: str) -> Float64Array:
        """The largest value of a column."""
        values = self._index.rows.columns[column_name("highest", column)]
        return self._value_of_lowest(values, ranked=~values)

    def distinct(self, column: str) -> Int64Array:
        """Number of different values of a column."""
        codes = self._index.rows.columns[column_name("code", column)]
        return self._shared.distinct(codes, self._window)

    @cached_property
    def _start(self) -> Int64Array:
        return self._window.start(self._as_of_us)

    @cached_property
    def _has_newest(self) -> BoolArray:
        newest = self._shared.newest
        return newest.exists & (newest.row_key >= self._start)

    @cached_property
    def _oldest(self) -> SelectedRows:
        return oldest_rows(self._index, self._start)

    def _minutes_since(self, rows: SelectedRows, exists: BoolArray) -> Float64Array:
        return np.where(exists, (self._as_of_us - rows.row_key) / MINUTE, np.nan)

    def _value_of_lowest(self, values: Int64Array, *, ranked: Int64Array) -> Float64Array:
        """The value of the row with the smallest of `ranked`."""
        rows = self._shared.lowest(ranked, self._start)
        if not len(values):
            return np.full(len(rows), np.nan)
        return from_sortable(np.where(rows >= 0, values[rows], UNSET))

"""Implements what operations are computed from (`features.definitions.operations`)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.definitions.events import BoolArray, Float64Array, Int64Array
from features.engine.merge_tree import MergeTree
from features.engine.numbers import INVALID, from_sortable
from features.engine.point_in_time import PointInTimeIndex
from features.engine.queries import SlidingWindow
from features.engine.rows import PointInTimeRows
from features.engine.selections import SelectedRows, newest_rows, oldest_rows
from features.engine.sorting import UNSET
from features.engine.state_columns import StateColumn, column_name
from features.engine.sums import halves, joined, never_leave
from features.engine.window_sums import WindowSums, distinct_count
from infra.clock import MINUTE

COUNT = "count"
_UPPER, _LOWER, _UNFIT = "upper:", "lower:", "unfit:"


@dataclass(frozen=True)
class SumTable:
    """The layout of a table of everything that is added up: the count of events is column 0."""

    columns: tuple[StateColumn, ...]

    def only(self, columns: Sequence[str]) -> "SumTable":
        """The layout without what is kept of other columns."""
        return SumTable(tuple(c for c in self.columns if c.of in columns))

    @cached_property
    def added(self) -> tuple[str, ...]:
        """The columns of which something is added up, in their order."""
        return tuple(dict.fromkeys(c.of for c in self.columns if c.kind in ("sum", "number")))

    @cached_property
    def scales(self) -> Mapping[str, int | None]:
        """The scale of each declared column."""
        return {c.of: c.declared.scale for c in self.columns if c.declared is not None}

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns if c.kind in ("sum", "number"))

    def of(self, rows: PointInTimeRows) -> "FilledTable":
        """The table of these rows."""
        names = (COUNT, *self._names)
        cells = np.column_stack([rows.counts, *(rows.columns[name] for name in self._names)])
        if not never_leave(cells):
            columns = _with_wide_sums(dict(zip(names, cells.T, strict=True)))
            names, cells = tuple(columns), np.column_stack(list(columns.values()))
        place = {name: i for i, name in enumerate(names)}
        return FilledTable(cells=cells, place=place, scales=self.scales)


@dataclass(frozen=True, kw_only=True)
class FilledTable:
    """A table of everything that is added up. `cells`: (rows or queries, columns); `place`: the
    column of each state column, or of its halves. `scales`: of each declared column."""

    cells: Int64Array
    place: Mapping[str, int]
    scales: Mapping[str, int | None]

    def holding(self, cells: Int64Array) -> "FilledTable":
        """The same columns with other cells."""
        return replace(self, cells=cells)

    def __getitem__(self, name: str) -> Int64Array:
        """The cells of a column."""
        return self.cells[:, self.place[name]]


def _with_wide_sums(columns: Mapping[str, Int64Array]) -> dict[str, Int64Array]:
    """The columns, with two halves in place of each sum, how many events have a value in it, and
    how many one that does not fit."""
    wide: dict[str, Int64Array] = {}
    for name, values in columns.items():
        kind, _, of = name.partition(":")
        if kind != "sum":
            wide[name] = values
            continue
        wide[_UPPER + name], wide[_LOWER + name] = halves(np.where(values > INVALID, values, 0))
        wide[_UNFIT + name] = np.where(values == INVALID, columns[COUNT], 0)
        if (number := column_name("number", of)) not in columns:
            wide[number] = np.where(values == UNSET, 0, columns[COUNT])
    return wide


class TableSums:
    """`operations.Sums`, from a table with the totals of each query."""

    def __init__(self, totals: Callable[[], FilledTable]) -> None:
        self._make_totals = totals

    def count(self) -> Int64Array:
        """Number of events."""
        return self._totals[COUNT]

    def total(self, column: str) -> NDArray[Any]:
        """Sum of a declared column, in its unit."""
        total = self._sum(column_name("sum", column))
        scale = self._totals.scales[column]
        return total if scale is None else total / scale

    def count_of(self, column: str) -> Int64Array:
        """Number of events that have a value in a declared column."""
        number = column_name("number", column)
        return self._totals[number if number in self._totals.place else COUNT]

    def _sum(self, name: str) -> NDArray[Any]:
        totals = self._totals
        if name in totals.place:
            return totals[name]
        sums = joined(totals[_UPPER + name], totals[_LOWER + name])
        return np.where(totals[_UNFIT + name] > 0, np.nan, sums)

    @cached_property
    def _totals(self) -> FilledTable:
        return self._make_totals()


class SharedLookups:
    """What the windows of one view have in common, computed once and only if it is needed."""

    def __init__(
        self,
        index: PointInTimeIndex,
        table: SumTable,
        newest: Callable[[], SelectedRows] | None = None,
    ) -> None:
        """`newest`: the newest rows, where others look them up as well."""
        self.index, self._table = index, table
        self._newest = newest or partial(newest_rows, index)

    def totals_over(self, window: SlidingWindow) -> FilledTable:
        """What the rows in a window add up to."""
        return self.table.holding(self._sums.over(window))

    def lowest(self, ranked: Int64Array, start: Int64Array) -> Int64Array:
        """The row with the smallest of `ranked` and key >= start of each query; -1 for none."""
        return MergeTree(self.index).lowest(ranked, start)

    def distinct(self, codes: Int64Array, window: SlidingWindow) -> Int64Array:
        """How many different codes the rows in a window have."""
        return distinct_count(self.index, codes, window)

    @cached_property
    def table(self) -> FilledTable:
        """What the rows add up to."""
        return self._table.of(self.index.rows)

    @cached_property
    def newest(self) -> SelectedRows:
        """The newest row of each query, whatever its age."""
        return self._newest()

    @cached_property
    def _sums(self) -> WindowSums:
        return WindowSums(self.index, self.table.cells)


class RowsInWindow(TableSums):
    """`operations.WindowAggregates`, over the rows in one window of each query."""

    def __init__(self, shared: SharedLookups, window: SlidingWindow) -> None:
        super().__init__(lambda: shared.totals_over(window))
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

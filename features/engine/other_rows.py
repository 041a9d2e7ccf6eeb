"""Aggregates over the rows that are not a query's own: what `exclude_self` of a view means.

A query's own rows are those of its group whose code is the query's. Every row of the group would
have to be looked at once a query to leave them out; instead:

* sums are those over all rows, less those over the own rows, which are groups of their own;
* the lowest row is the lowest one or, if that is an own row, the lowest of all other codes;
* a value is lost to `distinct` for the query of a code while the newest row with that value is of
  this code, and the newest row of other codes with it has left the window.
"""

from functools import cached_property

import numpy as np

from features.definitions.events import Float64Array, Int64Array
from features.engine.merge_tree import MergeTree
from features.engine.point_in_time import PointInTimeIndex
from features.engine.queries import PointInTimeQueries, SlidingWindow
from features.engine.rows import PointInTimeRows
from features.engine.sorting import UNSET, two_highest
from features.engine.state_columns import column_name
from features.engine.window_aggregates import FilledTable, RowsInWindow, SharedLookups, SumTable
from features.engine.window_sums import WindowSums
from infra.clock import MINUTE

_KEY, _KNOWN, _COUNT = 2, 3, 4  # columns of the steps, after the group and the own code


def queries_with_own_rows(
    rows: PointInTimeRows, codes: Int64Array, queries: PointInTimeQueries, own: Int64Array
) -> Int64Array:
    """The queries that know a row with their own code; UNSET is no code."""
    candidates = np.flatnonzero(np.isin(own, codes) & (own != UNSET))
    if not len(candidates):
        return candidates
    near = np.flatnonzero(np.isin(codes, own[candidates]))
    row_pair, query_pair = _pairs(
        (rows.group[near], codes[near]), (queries.group[candidates], own[candidates])
    )
    first_known = np.full(query_pair.max(initial=0) + 1, np.iinfo(np.int64).max)
    met = row_pair < len(first_known)
    np.minimum.at(first_known, row_pair[met], rows.known_us[near][met])
    return candidates[first_known[query_pair] < queries.as_of_us[candidates]]


class LookupsAmongOthers(SharedLookups):
    """What the windows of one view have in common, for queries that leave out their own rows."""

    def __init__(
        self, index: PointInTimeIndex, table: SumTable, codes: Int64Array, own: Int64Array
    ) -> None:
        """`codes`: one a row. `own`: one a query."""
        super().__init__(index, table)
        self._codes, self._own = codes, own

    def totals_over(self, window: SlidingWindow) -> FilledTable:
        """What the rows in a window add up to."""
        totals = super().totals_over(window)
        return totals.holding(totals.cells - self._own_sums.over(window))

    def lowest(self, ranked: Int64Array, start: Int64Array) -> Int64Array:
        """The row with the smallest of `ranked` and key >= start of each query; -1 for none."""
        return MergeTree(self.index).lowest_of_others(ranked, start, self._codes, self._own)

    def distinct(self, codes: Int64Array, window: SlidingWindow) -> Int64Array:
        """How many different codes the rows in a window have."""
        steps = _lost_values(self.index.rows, codes, self._codes)
        group, query_group = _pairs(
            (steps.group, steps.columns["own"]), (self.index.queries.group, self._own)
        )
        lost = _sums_of(steps, group, self.index.queries, query_group, steps.counts[:, None])
        return super().distinct(codes, window) - lost.over(window)[:, 0]

    @cached_property
    def _own_sums(self) -> WindowSums:
        rows, queries = self.index.rows, self.index.queries
        group, query_group = _pairs((rows.group, self._codes), (queries.group, self._own))
        return _sums_of(rows, group, queries, query_group, self.table.cells)


class OthersInWindow(RowsInWindow):
    """`operations.WindowAggregates`, over the rows in one window that are not the query's own."""

    def newest(self, column: str) -> Float64Array:
        """The column's value of the newest event."""
        values = self._index.rows.columns[column_name("highest", column)]
        return self._value_of_lowest(values, ranked=_order_of(~self._row_key, ~values))

    def oldest(self, column: str) -> Float64Array:
        """The column's value of the oldest event."""
        values = self._index.rows.columns[column_name("lowest", column)]
        return self._value_of_lowest(values, ranked=_order_of(self._row_key, values))

    def minutes_since_newest(self) -> Float64Array:
        """Minutes from the newest event to the query."""
        return self._minutes_since_row(self._shared.lowest(~self._row_key, self._start))

    def minutes_since_oldest(self) -> Float64Array:
        """Minutes from the oldest event to the query."""
        return self._minutes_since_row(self._shared.lowest(self._row_key, self._start))

    def _minutes_since_row(self, rows: Int64Array) -> Float64Array:
        times = self._row_key[rows] if len(self._row_key) else rows
        return np.where(rows >= 0, (self._as_of_us - times) / MINUTE, np.nan)

    @property
    def _row_key(self) -> Int64Array:
        return self._index.rows.row_key


def _order_of(key: Int64Array, values: Int64Array) -> Int64Array:
    """Numbers that sort by key, and by value where keys are equal."""
    order = np.lexsort((values, key))
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.arange(len(order))
    return numbers


def _pairs(
    rows: tuple[Int64Array, Int64Array], queries: tuple[Int64Array, Int64Array]
) -> tuple[Int64Array, Int64Array]:
    """A number for each (group, code), the same in rows and queries."""
    columns = [np.concatenate(parts) for parts in zip(rows, queries, strict=True)]
    ranks = [np.unique(column, return_inverse=True)[1] for column in columns]
    pairs = ranks[0] * (ranks[1].max(initial=0) + 1) + ranks[1]
    numbers = np.unique(pairs, return_inverse=True)[1]
    return numbers[: len(rows[0])], numbers[len(rows[0]) :]


def _sums_of(
    rows: PointInTimeRows,
    group: Int64Array,
    queries: PointInTimeQueries,
    query_group: Int64Array,
    table: Int64Array,
) -> WindowSums:
    """The sums of rows and queries in other groups."""
    regrouped = PointInTimeRows(
        group=group,
        row_key=rows.row_key,
        known_us=rows.known_us,
        counts=rows.counts,
        columns={},
    )
    moved = queries.select(np.arange(len(queries)), query_group)
    return WindowSums(PointInTimeIndex(regrouped, moved), table)


def _lost_values(rows: PointInTimeRows, values: Int64Array, codes: Int64Array) -> PointInTimeRows:
    """Steps whose sum over a window is the number of values that a query of the code `own` loses.

    Of the rows of one value, in the order in which they became known: from each one on the newest
    row has a key and a code, and the newest row of other codes has another key. Until the next
    change, the query of that code loses the value if its window begins between these keys.
    """
    order = np.lexsort((rows.known_us, values, rows.group))
    order = order[values[order] != UNSET]
    group, value, known = rows.group[order], values[order], rows.known_us[order]
    new = np.r_[True, (group[1:] != group[:-1]) | (value[1:] != value[:-1])][: len(order)]
    keys, rank = np.unique(rows.row_key[order], return_inverse=True)
    best = two_highest(rank, codes[order], np.cumsum(new))
    lost = np.column_stack([group, best.code, keys[best.highest], known, np.ones_like(group)])
    kept = lost.copy()
    has_other = best.of_other_codes >= 0
    kept[has_other, _KEY] = keys[best.of_other_codes[has_other]]
    kept[:, _COUNT] = -1
    begun = np.concatenate([lost, kept[has_other]])
    state = np.concatenate([np.arange(len(order)), np.flatnonzero(has_other)])
    # A state ends with the next row of its value.
    ends = np.append(~new, False)[1:][state]
    ended = begun[ends]
    ended[:, _KNOWN] = known[state[ends] + 1]
    ended[:, _COUNT] *= -1
    group, own, key, known, counts = np.concatenate([begun, ended]).T
    return PointInTimeRows(
        group=group, row_key=key, known_us=known, counts=counts, columns={"own": own}
    )

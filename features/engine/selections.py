"""The newest and the oldest row of each query, and the columns of those rows."""

from collections.abc import Callable
from functools import cached_property

import numpy as np

from features.definitions.events import Int64Array
from features.engine.merge_tree import MergeTree
from features.engine.point_in_time import PointInTimeIndex
from features.engine.sorting import UNSET, pairs


def newest_rows(index: PointInTimeIndex) -> "SelectedRows":
    """For each query the known row with the largest key, whatever its age."""
    if not len(index.rows):
        none = np.full(len(index.queries), -1, np.int64)
        return SelectedRows(index, none, tied_keys=lambda: np.empty(0, np.int64))
    # Keys of a later group are all higher, so a running maximum starts again at each group.
    keys = index.group_keys[index.by_known.order]
    highest = np.maximum.accumulate(keys)
    leads = keys == highest
    repeated = leads[1:] & (highest[1:] == highest[:-1])
    leader = np.maximum.accumulate(np.where(leads, np.arange(len(keys)), 0))
    known_before = index.known_before
    rows = index.only_own_group(index.by_known.order[leader[known_before - 1]], known_before > 0)
    tied = highest[1:][repeated]
    return SelectedRows(index, rows, tied_keys=lambda: tied)


def oldest_rows(index: PointInTimeIndex, start: Int64Array) -> "SelectedRows":
    """For each query the known row with the smallest key among those with key >= start."""
    rows = MergeTree(index).lowest(index.rows.row_key, start)
    return SelectedRows(index, rows, tied_keys=lambda: index.shared_group_keys)


class SelectedRows:
    """A row for each query; -1 for none, where `exists` is false.

    Where several known rows have one group and key, the selected row stands for all of them.
    `tied_keys` gives the `group_keys` for which that may be so; only `max_of` needs them.
    """

    def __init__(
        self, index: PointInTimeIndex, rows: Int64Array, *, tied_keys: Callable[[], Int64Array]
    ) -> None:
        self.exists = rows >= 0
        self._index, self._rows, self._tied_keys = index, rows, tied_keys
        self._row_or_first = np.maximum(rows, 0)

    @cached_property
    def row_key(self) -> Int64Array:
        """The rows' keys; without meaning where there is none."""
        keys = self._index.rows.row_key
        return keys[self._row_or_first] if len(keys) else np.zeros(len(self._rows), np.int64)

    def max_of(self, column: str, *, negated: bool = False) -> Int64Array:
        """The largest value of a column among the rows that each selected row stands for; UNSET
        where there is none. `negated`: of the column's bitwise complement."""
        rows = self._index.rows
        if not len(rows):
            return np.full(len(self._rows), UNSET, np.int64)
        values = _complement_if(negated, rows.column_at(column, self._row_or_first))
        queries, tied_rows = self._tied_rows
        if len(queries):  # a column is costly to compute
            tied_values = _complement_if(negated, rows.column_at(column, tied_rows))
            np.maximum.at(values, queries, tied_values)
        return np.where(self.exists, values, UNSET)

    @cached_property
    def _tied_rows(self) -> tuple[Int64Array, Int64Array]:
        """(query, row) for every known row of the group and key of a selected row whose key is one
        of the tied ones."""
        index, empty = self._index, np.empty(0, np.int64)
        tied_keys = self._tied_keys()
        selected = np.flatnonzero(self.exists) if len(tied_keys) else empty
        queries = selected[np.isin(index.group_keys[self._rows[selected]], tied_keys)]
        if not len(queries):
            return empty, empty
        first, end = index.by_key.ties
        rank = index.key_rank[self._rows[queries]]
        which, place = pairs(first[rank], end[rank])
        rows = index.by_key.order[place]
        known = index.rows.known_us[rows] < index.queries.as_of_us[queries[which]]
        return queries[which[known]], rows[known]


def _complement_if(negated: bool, values: Int64Array) -> Int64Array:
    return ~values if negated else values

"""The newest and the oldest row of each query, and the columns of those rows."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from features.definitions.events import Int64Array
from features.engine.merge_tree import MergeTree
from features.engine.point_in_time import PointInTimeIndex
from features.engine.sorting import UNSET, Order, running_maximum


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
        tied = self._tied
        if tied is not None:  # a column is costly to compute
            tied_values = _complement_if(negated, rows.column_at(column, tied.rows))
            values[tied.queries] = running_maximum(tied_values, tied.cluster)[tied.last]
        return np.where(self.exists, values, UNSET)

    @cached_property
    def _tied(self) -> "_TiedRows | None":
        """The rows that share their group and key with others; None where no query selects one."""
        index, tied_keys = self._index, self._tied_keys()
        if not len(tied_keys):
            return None
        selected = np.flatnonzero(self.exists)
        key = index.group_keys[self._rows[selected]]
        is_tied = np.isin(key, tied_keys)
        queries, keys = selected[is_tied], np.unique(key[is_tied])
        if not len(queries):
            return None
        members = np.flatnonzero(np.isin(index.group_keys, keys))
        cluster = np.searchsorted(keys, index.group_keys[members])
        by_known = Order(cluster, index.rows.known_us[members])
        known_before = by_known.before(
            np.searchsorted(keys, key[is_tied]), index.queries.as_of_us[queries]
        )
        return _TiedRows(
            rows=members[by_known.order],
            cluster=cluster[by_known.order],
            queries=queries,
            last=known_before - 1,
        )


@dataclass(frozen=True, kw_only=True)
class _TiedRows:
    """Rows cluster by cluster, each with one group and key, as they became known; and for each of
    `queries` the place of the last one that it knows. So no row is looked at once a query."""

    rows: Int64Array
    cluster: Int64Array
    queries: Int64Array
    last: Int64Array


def _complement_if(negated: bool, values: Int64Array) -> Int64Array:
    return ~values if negated else values

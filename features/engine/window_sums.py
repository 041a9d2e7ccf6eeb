"""Sums and distinct counts over windows that end at the time of the query."""

import numpy as np

from features.definitions.events import Int64Array
from features.engine.point_in_time import PointInTimeIndex
from features.engine.queries import SlidingWindow
from features.engine.rows import PointInTimeRows
from features.engine.sorting import UNSET, running


class WindowSums:
    """Sums of the rows of `table` (rows, columns) over windows."""

    def __init__(self, index: PointInTimeIndex, table: Int64Array) -> None:
        self._index, self._table = index, table
        self._known = running(table, index.by_known)[index.known_before]
        self._by_key = running(table, index.by_key)

    def over(self, window: SlidingWindow) -> Int64Array:
        """The sums over the rows in the window of each query: (queries, columns)."""
        start = window.start(self._index.queries.as_of_us)
        total = self._known - self._by_key[self._index.key_before(start)]
        self._add_known_late(total, window)
        return total

    def _add_known_late(self, total: Int64Array, window: SlidingWindow) -> None:
        """Add the sums of the rows with `key < start` and `known >= t`."""
        rows, queries = self._index.rows, self._index.queries_by_time
        # Subtracting UNSET would wrap round.
        known = np.where(rows.known_us == UNSET, rows.row_key, rows.known_us)
        late = np.flatnonzero(known - rows.row_key > window.length_us)
        if not len(late):
            return
        group, key = rows.group[late], rows.row_key[late]
        first = queries.before(group, window.first_query_after(key))
        stop = queries.before(group, rows.known_us[late] + 1)
        missed = stop > first
        steps = np.zeros((len(total) + 1, total.shape[1]), np.int64)
        np.add.at(steps, first[missed], self._table[late[missed]])
        np.subtract.at(steps, stop[missed], self._table[late[missed]])
        np.cumsum(steps, axis=0, out=steps)
        total[queries.order] += steps[:-1]


def distinct_count(index: PointInTimeIndex, codes: Int64Array, window: SlidingWindow) -> Int64Array:
    """How many different `codes` (one a row) the rows in each query's window have; UNSET codes do
    not count.

    Of the rows of one code only the newest known one matters: each counts from the time when it
    became known as the newest until the next one did. That is a sum of +1 and -1.
    """
    steps = PointInTimeIndex(_newest_of_each_code(index.rows, codes), index.queries)
    return WindowSums(steps, steps.rows.counts[:, None]).over(window)[:, 0]


def _newest_of_each_code(rows: PointInTimeRows, codes: Int64Array) -> PointInTimeRows:
    """For each time when a row becomes the newest known one of its code: its key with count +1, and
    the key of the row that it replaces with count -1."""
    order = np.lexsort((rows.known_us, codes, rows.group))
    order = order[codes[order] != UNSET]
    group, code = rows.group[order], codes[order]
    key, known = rows.row_key[order], rows.known_us[order]
    new = np.ones(len(order), bool)
    new[1:] = (group[1:] != group[:-1]) | (code[1:] != code[:-1])
    segment = np.cumsum(new)
    ranks = np.unique(key, return_inverse=True)[1] + segment * (len(order) + 1)
    newest = np.maximum.accumulate(ranks)
    rises = new | np.r_[True, newest[1:] > newest[:-1]][: len(order)]
    risen = np.flatnonzero(rises)
    # A rise that is not the first of its segment ends the one before it.
    ends = risen[1:][~new[risen[1:]]] if len(risen) else risen
    ended = risen[:-1][~new[risen[1:]]] if len(risen) else risen
    counts = np.concatenate([np.ones(len(risen), np.int64), np.full(len(ends), -1, np.int64)])
    return PointInTimeRows(
        group=np.concatenate([group[risen], group[ends]]),
        row_key=np.concatenate([key[risen], key[ended]]),
        known_us=np.concatenate([known[risen], known[ends]]),
        counts=counts,
        columns={},
    )

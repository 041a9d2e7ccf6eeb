"""Point-in-time joins over rows and queries: sorted once, then searched.

A query (group g, time t) is about the rows of g that were known before t and whose key (event time)
lies at or after the start of a window. Comparing each query with each row would cost rows times
queries. Instead:

* sums over a window, whose start moves with t (`window_sums`):

      rows(known < t, key >= start) = rows(known < t) - rows(key < start)
                                                      + rows(key < start, known >= t)

  The first two are prefix sums. The third has only rows that became known later than the window is
  long; each of those is missing from one range of the queries in the order of time, which one
  difference array adds up: O((rows + queries) log rows), however late and shuffled the rows are.
* the lowest of the rows, and sums between any two keys (`merge_tree`): a merge-sort tree over the
  rows in the order in which they became known, whose blocks are sorted by key
  (O(rows log^2 rows)).

All of it is exact in int64.
"""

from functools import cached_property

import numpy as np

from features.definitions.events import BoolArray, Int64Array
from features.engine.queries import PointInTimeQueries
from features.engine.rows import PointInTimeRows
from features.engine.sorting import Keys, Order


class PointInTimeIndex:
    """Rows and the queries about them, sorted once for everything that is computed over them."""

    def __init__(self, rows: PointInTimeRows, queries: PointInTimeQueries) -> None:
        self.rows, self.queries = rows, queries
        self.by_known = Order(rows.group, rows.known_us)
        # How many rows come before each query, of its own group and of the groups before it.
        self.known_before = self.by_known.before(queries.group, queries.as_of_us)

    @cached_property
    def by_key(self) -> Order:
        """The rows by group and key."""
        return Order(self.rows.group, self.rows.row_key)

    @cached_property
    def key_rank(self) -> Int64Array:
        """The place of each row in `by_key`."""
        rank = np.empty(len(self.rows), np.int64)
        rank[self.by_key.order] = np.arange(len(self.rows))
        return rank

    @cached_property
    def queries_by_time(self) -> Order:
        """The queries by group and time."""
        return Order(self.queries.group, self.queries.as_of_us)

    @cached_property
    def group_keys(self) -> Int64Array:
        """Group and key of each row as one number, which sorts as they do."""
        return Keys(self.rows.group, self.rows.row_key).of_items()

    @cached_property
    def shared_group_keys(self) -> Int64Array:
        """The `group_keys` that several rows have in common."""
        keys = np.sort(self.group_keys)
        return np.unique(keys[1:][keys[1:] == keys[:-1]])

    def key_before(self, key: Int64Array) -> Int64Array:
        """How many rows in `by_key` come before each query's group and the key given for it."""
        return self.by_key.before(self.queries.group, key)

    def only_own_group(self, rows: Int64Array, exists: BoolArray) -> Int64Array:
        """The row of each query; -1 where it does not exist or is of another group."""
        own = exists & (self.rows.group[rows] == self.queries.group)
        return np.where(own, rows, -1)

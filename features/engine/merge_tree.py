"""A merge-sort tree over the rows of an index: sums and minima over any range of keys."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from features.definitions.events import Int64Array
from features.engine.point_in_time import PointInTimeIndex
from features.engine.sorting import two_highest


@dataclass(frozen=True, kw_only=True)
class _Level:
    """One level of the tree: blocks of 2^k rows in the order of `by_known`, each sorted by key.

    `order` sorts the rows by block and key. `block` and `end` are those of the queries in
    `queries`, the ones that need this level.
    """

    order: Int64Array
    keys: Int64Array
    block_of_row: Int64Array
    queries: Int64Array
    block: Int64Array
    end: Int64Array

    def first_at(self, key_rank: Int64Array) -> Int64Array:
        """Where in `order`, in each query's block, the rows of at least this rank begin."""
        return np.searchsorted(self.keys, self.block * (len(self.keys) + 1) + key_rank)


class MergeTree:
    """Looks up the rows that were known before each query, by their keys."""

    def __init__(self, index: PointInTimeIndex) -> None:
        self._index = index

    def sums_between(self, table: Int64Array, start: Int64Array, end: Int64Array) -> Int64Array:
        """Sums of the rows of `table` with start <= key < end (start <= end), for each query.

        Shapes: (rows, columns), (queries,), (queries,) -> (queries, columns).
        """
        index = self._index
        start_rank, end_rank = index.key_before(start), index.key_before(end)
        total = np.zeros((len(index.queries), table.shape[1]), np.int64)
        for level in self._levels():
            sums = np.zeros((len(index.rows) + 1, table.shape[1]), np.int64)
            np.cumsum(table[index.by_known.order][level.order], axis=0, out=sums[1:])
            first = level.first_at(start_rank[level.queries])
            last = level.first_at(end_rank[level.queries])
            total[level.queries] += sums[last] - sums[first]
        return total

    def lowest(self, values: Int64Array, start: Int64Array) -> Int64Array:
        """For each query the row with the smallest of `values` among those with key >= start.

        -1 where there is none; any of them where several are equal.
        """
        index, n = self._index, len(self._index.rows)
        none = n
        order, rank = self._ranked(values)
        start_rank = index.key_before(start)
        best = np.full(len(index.queries), none, np.int64)
        for level in self._levels():
            shifted = rank[level.order] + level.block_of_row * n
            suffix_minimum = np.minimum.accumulate(shifted[::-1])[::-1]
            first = level.first_at(start_rank[level.queries])
            inside = first < level.end
            queries = level.queries[inside]
            lowest = suffix_minimum[first[inside]] - level.block[inside] * n
            best[queries] = np.minimum(best[queries], lowest)
        return index.only_own_group(order[np.minimum(best, n - 1)], best < n) if n else best - 1

    def lowest_of_others(
        self, values: Int64Array, start: Int64Array, codes: Int64Array, own: Int64Array
    ) -> Int64Array:
        """As `lowest`, but each query leaves out the rows whose code is its own."""
        index, n = self._index, len(self._index.rows)
        if not n:
            return np.full(len(index.queries), -1, np.int64)
        order, rank = self._ranked(values)
        codes = codes[index.by_known.order]
        start_rank = index.key_before(start)
        highest = np.full(len(index.queries), -1, np.int64)
        for level in self._levels():
            # The suffix of a block, from its end: what is lowest is highest from above.
            from_end = level.order[::-1]
            block = level.block_of_row[-1] - level.block_of_row[::-1]
            best = two_highest(n - 1 - rank[from_end], codes[from_end], block)
            first = level.first_at(start_rank[level.queries])
            inside = first < level.end
            queries, place = level.queries[inside], n - 1 - first[inside]
            is_own = best.code[place] == own[queries]
            candidates = np.where(is_own, best.of_other_codes[place], best.highest[place])
            highest[queries] = np.maximum(highest[queries], candidates)
        return index.only_own_group(order[n - 1 - np.maximum(highest, 0)], highest >= 0)

    def _ranked(self, values: Int64Array) -> tuple[Int64Array, Int64Array]:
        """The rows by group and value, and the place of each row in `by_known` among them: higher
        in later groups, since the suffix of a block may run into them."""
        index, n = self._index, len(self._index.rows)
        order = np.lexsort((values, index.rows.group))
        rank = np.empty(n, np.int64)
        rank[order] = np.arange(n)
        return order, rank[index.by_known.order]

    def _levels(self) -> Iterator[_Level]:
        """The levels that some query needs: the rows known before a query, a prefix in the order of
        `by_known`, are one block at each level that the prefix's length has a bit of."""
        known_before, n = self._index.known_before, len(self._index.rows)
        key = self._index.key_rank[self._index.by_known.order] if n else np.empty(0, np.int64)
        rows = np.arange(n)
        for bit in range(int(n).bit_length()):
            queries = np.flatnonzero(known_before & (1 << bit))
            if not len(queries):
                continue
            block_of_row = rows >> bit
            keys = block_of_row * (n + 1) + key
            order = np.argsort(keys, kind="stable")
            block = (known_before[queries] >> (bit + 1)) << 1
            yield _Level(
                order=order,
                keys=keys[order],
                block_of_row=block_of_row,
                queries=queries,
                block=block,
                end=np.minimum((block + 1) << bit, n),
            )

"""Items by group and time, sorted and looked up as 64-bit numbers.

A point-in-time join counts, for millions of queries, how many of millions of events came before.
All of it is sorting and searching, so that is here, and fast.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from features.definitions.events import Int64Array

UNSET = int(np.iinfo(np.int64).min)
"""No value, sorted below every value; as `known_us`: known before every query."""

HIGHEST = int(np.iinfo(np.int64).max)
"""No value, sorted above every value."""

RADIX_FROM = 100_000
"""From so many items on they are sorted by counting. So many are a history, whose groups are mixed:
counting takes half as long. Online there are fewer, group by group, and merging runs takes half as
long."""

_KEY_LIMIT = 1 << 62
_PROBES_TO_SORT = 1_000  # from so many on: sorted probes walk the keys once, others jump about


class Keys:
    """(group, time) of items as one number each, which sorts as they do."""

    def __init__(self, group: Int64Array, time: Int64Array) -> None:
        self._group, self._time = group, time
        set_times = time[time != UNSET]
        # UNSET stands at `low`, below every probe.
        self._low = int(set_times.min()) - 1 if len(set_times) else 0
        self._high = int(set_times.max()) + 1 if len(set_times) else 1
        self._step = self._high - self._low + 1
        self._groups = int(group.max(initial=0)) + 2
        # Group and microseconds together may need more than 64 bits: times then become ranks.
        self._times = None if self._groups * self._step < _KEY_LIMIT else np.unique(time)
        if self._times is not None:
            self._step = len(self._times) + 1

    def of_items(self) -> Int64Array:
        """The keys of the items themselves."""
        return self._keys_of(self._group, self._time, lowest=self._low)

    def of_probes(self, group: Int64Array, time: Int64Array) -> Int64Array:
        """Keys to look up among those of the items: the number of items with a smaller key is the
        number of items before the probe. A group beyond theirs comes after all of them."""
        return self._keys_of(np.minimum(group, self._groups), time, lowest=self._low + 1)

    def _keys_of(self, group: Int64Array, time: Int64Array, *, lowest: int) -> Int64Array:
        if self._times is not None:
            return group * self._step + np.searchsorted(self._times, time)
        return group * self._step + (np.clip(time, lowest, self._high) - self._low)


class Order:
    """Items sorted by (group, time), to look others up among them. Equal ones stay in order.

    `order`: the items' indexes, sorted. `keys`: their keys in that order.
    """

    def __init__(self, group: Int64Array, time: Int64Array) -> None:
        self._keys = Keys(group, time)
        keys = self._keys.of_items()
        few = len(keys) < RADIX_FROM
        self.order = np.argsort(keys, kind="stable") if few else _radix_sorted(group, time)
        self.keys = keys[self.order]

    def __len__(self) -> int:
        return len(self.order)

    def before(self, group: Int64Array, time: Int64Array) -> Int64Array:
        """How many items are sorted before each (group, time)."""
        keys = self._keys.of_probes(group, time)
        if len(keys) < _PROBES_TO_SORT:
            return np.searchsorted(self.keys, keys)
        order = np.argsort(keys)
        counts = np.empty(len(keys), np.int64)
        counts[order] = np.searchsorted(self.keys, keys[order])
        return counts

    @cached_property
    def ties(self) -> tuple[Int64Array, Int64Array]:
        """For each item in order: where the items of its group and time begin and end."""
        new = np.r_[True, self.keys[1:] != self.keys[:-1]][: len(self.keys)]
        starts = np.flatnonzero(new)
        cluster = np.cumsum(new) - 1
        ends = np.append(starts[1:], len(self.keys))
        return starts[cluster], ends[cluster]


def running(table: Int64Array, order: Order) -> Int64Array:
    """Sums of the rows of `table` before each place in the order, and over all of it."""
    sums = np.zeros((len(table) + 1, table.shape[1]), np.int64)
    np.cumsum(table[order.order], axis=0, out=sums[1:])
    return sums


def running_maximum(values: Int64Array, segment: Int64Array) -> Int64Array:
    """The largest of the values up to each place, in its segment; segments ascend."""
    distinct, rank = np.unique(values, return_inverse=True)
    offset = segment * len(distinct)
    return distinct[np.maximum.accumulate(rank + offset) - offset]


@dataclass(frozen=True, kw_only=True)
class TwoHighest:
    """At each place of a segment, of the ranks up to there: the highest, its code, and the highest
    of all other codes (-1: there is none)."""

    highest: Int64Array
    code: Int64Array
    of_other_codes: Int64Array


def two_highest(rank: Int64Array, code: Int64Array, segment: Int64Array) -> TwoHighest:
    """The two highest ranks of different codes. Ranks are 0 or more, segments ascend."""
    n = len(rank)
    offset = segment * (rank.max(initial=0) + 2)
    highest = np.maximum.accumulate(rank + offset) - offset
    begins = np.r_[True, segment[1:] != segment[:-1]][:n]
    rises = begins | np.r_[True, highest[1:] > highest[:-1]][:n]
    leader = code[np.maximum.accumulate(np.where(rises, np.arange(n), 0))]
    # Between two leaders: the highest that the one before had, or a later one of another code.
    new_leader = begins | np.r_[True, leader[1:] != leader[:-1]][:n]
    overtaken = np.r_[-1, highest[:-1]][:n]
    other = np.where(code != leader, rank, -1)
    other = np.where(new_leader, np.where(begins, -1, overtaken), other)
    offset = np.cumsum(new_leader) * (rank.max(initial=0) + 2)
    of_other_codes = np.maximum.accumulate(other + offset) - offset
    return TwoHighest(highest=highest, code=leader, of_other_codes=of_other_codes)


def _radix_sorted(group: Int64Array, time: Int64Array) -> Int64Array:
    """The stable order by (group, time). Events come nearly in the order of time, which a merge
    sort takes as it is; groups are then sorted by 16 bits at a time, which numpy counts out."""
    order = np.argsort(time, kind="stable")
    for shift in range(0, int(group.max()).bit_length(), 16):
        digit = ((group[order] >> shift) & 0xFFFF).astype(np.uint16)
        order = order[np.argsort(digit, kind="stable")]
    return order

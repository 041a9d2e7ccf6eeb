"""Things by group and time, sorted and looked up as numbers of 64 bits.

The kernel asks of millions of events how many came before each of millions of questions: all of it
is sorting and searching, so that is here, and fast.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from features.definitions.events import Int64Array

UNSET = int(np.iinfo(np.int64).min)
"""No value, sorted below every value; of `known_us`: known to every question."""

HIGHEST = int(np.iinfo(np.int64).max)
"""No value, sorted above every value."""

RADIX_FROM = 100_000
"""So many things are a history's, whose groups are mixed: sorting them by counting takes half as
long. Live there are fewer, group by group, and merging their runs takes half as long."""

_KEY_LIMIT = 1 << 62
_WORTH_SORTING = 1_000  # sorted probes walk the keys once instead of jumping about in them


class Keys:
    """(group, time) of things as one number each that sorts as they do."""

    def __init__(self, group: Int64Array, time: Int64Array) -> None:
        self._group, self._time = group, time
        told = time[time != UNSET]
        # UNSET stands at `low`, below every probe.
        self._low = int(told.min()) - 1 if len(told) else 0
        self._high = int(told.max()) + 1 if len(told) else 1
        self._step = self._high - self._low + 1
        self._groups = int(group.max(initial=0)) + 2
        # Group and microseconds together may need more than 64 bits: times then become ranks.
        self._times = None if self._groups * self._step < _KEY_LIMIT else np.unique(time)
        if self._times is not None:
            self._step = len(self._times) + 1

    def of_things(self) -> Int64Array:
        """The keys of the things themselves."""
        return self._made(self._group, self._time, lowest=self._low)

    def of_probes(self, group: Int64Array, time: Int64Array) -> Int64Array:
        """Keys to look up among those of the things: for each the number of things with a smaller
        key is the number of things before it. A group beyond theirs lies behind everything."""
        return self._made(np.minimum(group, self._groups), time, lowest=self._low + 1)

    def _made(self, group: Int64Array, time: Int64Array, *, lowest: int) -> Int64Array:
        if self._times is not None:
            return group * self._step + np.searchsorted(self._times, time)
        return group * self._step + (np.clip(time, lowest, self._high) - self._low)


class Order:
    """Things sorted by (group, time), to look others up among them. Equal ones stay in order."""

    def __init__(self, group: Int64Array, time: Int64Array) -> None:
        self._keys = Keys(group, time)
        keys = self._keys.of_things()
        few = len(keys) < RADIX_FROM
        self.order = np.argsort(keys, kind="stable") if few else _radix_sorted(group, time)
        self.keys = keys[self.order]

    def __len__(self) -> int:
        return len(self.order)

    def before(self, group: Int64Array, time: Int64Array) -> Int64Array:
        """How many things are sorted before each (group, time)."""
        keys = self._keys.of_probes(group, time)
        if len(keys) < _WORTH_SORTING:
            return np.searchsorted(self.keys, keys)
        order = np.argsort(keys)
        found = np.empty(len(keys), np.int64)
        found[order] = np.searchsorted(self.keys, keys[order])
        return found

    @cached_property
    def ties(self) -> tuple[Int64Array, Int64Array]:
        """For each thing in order: where the things of its group and time begin and end."""
        new = np.r_[True, self.keys[1:] != self.keys[:-1]][: len(self.keys)]
        starts = np.flatnonzero(new)
        cluster = np.cumsum(new) - 1
        ends = np.append(starts[1:], len(self.keys))
        return starts[cluster], ends[cluster]


def pairs(start: Int64Array, end: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Every (i, k) with start[i] <= k < end[i], as two arrays."""
    count = np.maximum(end - start, 0)
    which = np.repeat(np.arange(len(count)), count)
    first = np.cumsum(count) - count
    return which, np.arange(len(which)) - first[which] + start[which]


def running(table: Int64Array, order: Order) -> Int64Array:
    """Sums of the rows of `table` before each place in the order, and before its end."""
    sums = np.zeros((len(table) + 1, table.shape[1]), np.int64)
    np.cumsum(table[order.order], axis=0, out=sums[1:])
    return sums


def _radix_sorted(group: Int64Array, time: Int64Array) -> Int64Array:
    """The stable order by (group, time). Events come nearly in the order of time, which a merge
    sort takes as it is; groups are then sorted by 16 bits at a time, which numpy counts out."""
    order = np.argsort(time, kind="stable")
    for shift in range(0, int(group.max()).bit_length(), 16):
        digit = ((group[order] >> shift) & 0xFFFF).astype(np.uint16)
        order = order[np.argsort(digit, kind="stable")]
    return order


PAIRS_AT_ONCE = 4_000_000


def chunks(sizes: Int64Array) -> Sequence[tuple[int, int]]:
    """Ranges of questions whose pairs fit into memory together; each has one question or more."""
    part = (np.cumsum(sizes) - sizes) // PAIRS_AT_ONCE
    starts = np.flatnonzero(np.r_[True, part[1:] != part[:-1]])
    return list(zip(starts.tolist(), [*starts[1:].tolist(), len(sizes)], strict=True))

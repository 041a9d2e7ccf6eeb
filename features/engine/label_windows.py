"""Which events come after a decision, and so can be its label.

An event comes after a decision at `t` if it happened after `t` and was known at `t` or later. What
was known before `t` had happened by then, whatever the clock of its source says. So no event can be
both: seen by the features of a decision (`known < t`), and its label.
"""

import numpy as np

from features.definitions import BoolArray, Int64Array


def happened_within(
    *,
    group: Int64Array,
    happened_us: Int64Array,
    known_us: Int64Array,
    query_group: Int64Array,
    query_us: Int64Array,
    within_us: int,
    wait_us: int,
) -> BoolArray:
    """For each query (group, t): is there an event of the group with `t < happened <= t + within`
    and `t <= known < t + wait`?

    For each event that holds for the times t of one interval, so an event exists where more
    intervals of the group have begun than ended by `t`: O((events + queries) log events), in any
    order.
    """
    begins = np.maximum(happened_us - within_us, known_us - wait_us + 1)
    ends = _precedes_until(happened_us, known_us)
    not_empty = begins < ends
    group, begins, ends = group[not_empty], begins[not_empty], ends[not_empty]
    begun = _up_to(group, begins, query_group, query_us)
    ended = _up_to(group, ends, query_group, query_us)
    return begun > ended


def first_known_after(
    *,
    group: Int64Array,
    happened_us: Int64Array,
    known_us: Int64Array,
    rank: Int64Array,
    query_group: Int64Array,
    query_us: Int64Array,
) -> Int64Array:
    """For each query (group, t): of the events of the group with `happened > t` and `known >= t`
    the one of the lowest rank; -1 where there is none.

    `rank` numbers the events from 0. O((events + queries) log events), in any order.
    """
    n = len(group)
    if not n:
        return np.full(len(query_group), -1, np.int64)
    until = _precedes_until(happened_us, known_us)
    order = np.lexsort((until, group))
    # Going down the groups the sum falls from each to the next, so the minimum stays in its group.
    lowest = np.minimum.accumulate((group[order] * n + rank[order])[::-1])[::-1]
    place = _up_to(group, until, query_group, query_us)
    at = np.minimum(place, n - 1)
    exists = (place < n) & (group[order][at] == query_group)
    by_rank = np.empty(n, np.int64)
    by_rank[rank] = np.arange(n)
    return np.where(exists, by_rank[lowest[at] % n], -1)


def _precedes_until(happened_us: Int64Array, known_us: Int64Array) -> Int64Array:
    """The first time as of which a decision is no longer before each event."""
    return np.minimum(happened_us, known_us + 1)


def _up_to(
    group: Int64Array, time_us: Int64Array, query_group: Int64Array, query_us: Int64Array
) -> Int64Array:
    """How many (group, time) are sorted up to and with each query, those of lower groups too."""
    # Times become ranks: group and microseconds together may need more than 64 bits.
    times = np.unique(time_us)
    # A query after all of them probes the first key of the next group, which it does not count.
    step = len(times)
    keys = np.sort(group * step + np.searchsorted(times, time_us))
    probes = query_group * step + np.searchsorted(times, query_us, side="right")
    return np.searchsorted(keys, probes)

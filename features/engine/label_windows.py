"""Whether anything happened within a time after a decision: the rule of labels with `within`."""

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
    and `known < t + wait`?

    For each event that holds for the times t of one interval, so an event exists where more
    intervals of the group have begun than ended by `t`: O((events + queries) log events), in any
    order.
    """
    begins = np.maximum(happened_us - within_us, known_us - wait_us + 1)
    not_empty = begins < happened_us
    group, begins, ends = group[not_empty], begins[not_empty], happened_us[not_empty]
    begun = _up_to(group, begins, query_group, query_us)
    ended = _up_to(group, ends, query_group, query_us)
    return begun > ended


def _up_to(
    group: Int64Array, time_us: Int64Array, query_group: Int64Array, query_us: Int64Array
) -> Int64Array:
    """How many (group, time) are sorted up to and with each query, those of lower groups too."""
    # Times become ranks: group and microseconds together may need more than 64 bits.
    times = np.unique(time_us)
    step = len(times) + 1
    keys = np.sort(group * step + np.searchsorted(times, time_us))
    probes = query_group * step + np.searchsorted(times, query_us, side="right")
    return np.searchsorted(keys, probes)

"""Did anything happen within a span after a moment? The rule of labels that have a horizon."""

import numpy as np

from features.definitions import BoolArray, Int64Array


def happened_within(
    *,
    group: Int64Array,
    happened_us: Int64Array,
    known_us: Int64Array,
    asked_group: Int64Array,
    asked_us: Int64Array,
    within_us: int,
    wait_us: int,
) -> BoolArray:
    """For each question (group, t): is there an event of the group with `t < happened <= t +
    within` and `known < t + wait`?

    An event answers yes to the moments of one interval, so the question is whether more intervals
    of its group have begun than ended by `t`: O((events + questions) log events), in any order.
    """
    begins = np.maximum(happened_us - within_us, known_us - wait_us + 1)
    open_ = begins < happened_us
    group, begins, ends = group[open_], begins[open_], happened_us[open_]
    begun = _up_to(group, begins, asked_group, asked_us)
    ended = _up_to(group, ends, asked_group, asked_us)
    return begun > ended


def _up_to(
    group: Int64Array, time_us: Int64Array, asked_group: Int64Array, asked_us: Int64Array
) -> Int64Array:
    """How many (group, time) are sorted up to and with each question, those of lower groups too."""
    # Times become ranks: group and microseconds together may need more than 64 bits.
    times = np.unique(time_us)
    step = len(times) + 1
    keys = np.sort(group * step + np.searchsorted(times, time_us))
    asked = asked_group * step + np.searchsorted(times, asked_us, side="right")
    return np.searchsorted(keys, asked)

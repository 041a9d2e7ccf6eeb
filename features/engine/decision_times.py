"""When decisions were made: the times that `Decision.at` computes from events of the past."""

import numpy as np

from features.definitions import Columns, Decision, Int64Array
from features.engine.formulas import FAILURES, attempt, run_for_numbers
from features.engine.numbers import nulls, whole
from features.engine.sorting import UNSET


def decision_times(decision: Decision, events: Columns, n: int) -> Int64Array:
    """The decision time of each of `n` events, in microseconds; UNSET where `at` gives none.

    An event for which `at` fails makes no decision. Failures are counted. `events` may build an
    array when it is read: `at` does not say which it needs.
    """
    name = f"the decision time of {decision.source.name}"
    values = attempt(decision.at, events, n)
    if isinstance(values, str) or values.dtype.kind in "OU":
        values = run_for_numbers(decision.at, dict(events), n, name=name).values
    times = whole(values)
    without_time = ~nulls(values) & (times == UNSET)
    FAILURES.add((name, "no time in microseconds"), int(without_time.sum()))
    return np.asarray(times, np.int64)

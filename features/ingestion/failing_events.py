"""Which of many events a formula of a declaration fails for."""

from collections.abc import Callable, Mapping

import numpy as np

from features.definitions import Int64Array
from features.engine.event_rows import EventRows
from features.errors import FormulaFailed

Attempt = Callable[[EventRows], object]
"""Runs formulas on events; raises FormulaFailed."""


def failing(rows: EventRows, attempt: Attempt) -> Mapping[int, str]:
    """The places of the events that `attempt` fails for, and why. One among n costs about 2 log2 n
    attempts.

    If it fails for some events together and for none of them alone, they count as failing; it does
    not fail for the events that are left.
    """
    found = _failing(rows, attempt, np.arange(len(rows)))
    rest = np.setdiff1d(np.arange(len(rows)), list(found))
    return found | (_failing_together(rows, attempt, rest) if found and len(rest) else {})


def _failing(rows: EventRows, attempt: Attempt, at: Int64Array) -> dict[int, str]:
    together = _failing_together(rows, attempt, at)
    if len(at) <= 1 or not together:
        return together
    half = len(at) // 2
    found = _failing(rows, attempt, at[:half]) | _failing(rows, attempt, at[half:])
    return found or together


def _failing_together(rows: EventRows, attempt: Attempt, at: Int64Array) -> dict[int, str]:
    """All of these events if it fails for them at once, else none."""
    try:
        attempt(rows.where(np.isin(np.arange(len(rows)), at)))
    except FormulaFailed as error:
        return dict.fromkeys(at.tolist(), str(error))
    return {}

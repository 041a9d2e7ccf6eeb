"""What the checks of an event say: which events are refused, which fields count as null."""

from collections.abc import Sequence

import numpy as np

from features.definitions.events import BoolArray, Check, Columns, EventType


def required_fields(event: EventType, fields: Sequence[str]) -> tuple[str, ...]:
    """The fields, and those that the checks which may blank one of them read."""
    read = [f for c in event.checks_that("blank") if c.field in fields for f in c.reads]
    return tuple(dict.fromkeys((*fields, *read)))


def nullify_invalid(event: EventType, events: Columns) -> Columns:
    """The columns, with NaN in place of values that a check does not believe.

    `events` has what `required_fields` says.
    """
    blanking = [c for c in event.checks_that("blank") if c.field in events]
    if not blanking:
        return events
    found = dict(events)
    for check in blanking:
        if check.field is not None:
            bad = violations(check, events)
            if bad.any():
                found[check.field] = np.where(bad, np.nan, found[check.field])
    return found


def violations(check: Check, events: Columns) -> BoolArray:
    """Which events break a check; one with a null in a field that it reads does not."""
    bad: BoolArray = ~np.asarray(check.holds(events), bool)
    for field in check.reads:
        values = events[field]
        if values.dtype.kind == "f":
            bad &= ~np.isnan(values)
        elif values.dtype == object:
            bad &= np.array([v is not None for v in values.tolist()], bool)
    return bad

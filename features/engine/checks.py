"""Applies the checks of events: which events violate one, and which fields count as null."""

from collections.abc import Sequence

import numpy as np

from features.definitions.events import BoolArray, Check, Columns, EventType
from features.engine.formulas import TRUTH_VALUES, event_values


def required_fields(event: EventType, fields: Sequence[str]) -> tuple[str, ...]:
    """The fields, and those that their checks with `nullify` read; each once."""
    reads = [f for c in event.checks_with("nullify") if c.field in fields for f in c.reads]
    return tuple(dict.fromkeys((*fields, *reads)))


def nullify_invalid(event: EventType, events: Columns) -> Columns:
    """The columns, with NaN in place of the values that fail a check with `nullify`.

    `events` has at least the `required_fields`.
    """
    checks = [c for c in event.checks_with("nullify") if c.field in events]
    if not checks:
        return events
    columns = dict(events)
    for check in checks:
        if check.field is not None:
            failed = violations(check, events)
            if failed.any():
                columns[check.field] = np.where(failed, np.nan, columns[check.field])
    return columns


def violations(check: Check, events: Columns) -> BoolArray:
    """Which events violate a check. One with a null in a field that the check reads does not."""
    who = f"check {check.name!r}"
    failed: BoolArray = ~event_values(who, check.holds, events, kinds=TRUTH_VALUES)
    for field in check.reads:
        values = events[field]
        if values.dtype.kind == "f":
            failed &= ~np.isnan(values)
        elif values.dtype == object:
            failed &= np.array([v is not None for v in values.tolist()], bool)
    return failed

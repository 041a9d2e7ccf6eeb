"""Applies the checks of events: which events violate one, and which fields count as null.

Every check judges the event as it came, whatever another check nullifies.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from features.definitions.events import BoolArray, Check, Columns, EventType
from features.engine.columns import arrays_of
from features.engine.formulas import run
from features.engine.numbers import nulls


def required_fields(event: EventType, fields: Sequence[str]) -> tuple[str, ...]:
    """The fields, and those that their checks with `nullify` read; each once."""
    reads = [f for c in event.checks_with("nullify") if c.field in fields for f in c.reads]
    return tuple(dict.fromkeys((*fields, *reads)))


def nullified(event: EventType, fields: Mapping[str, Sequence[Any]]) -> Mapping[str, Sequence[Any]]:
    """The fields, with None in place of the values that fail a check with `nullify`.

    `fields` has at least the `required_fields` of those that are used.
    """
    wrong = dict(
        nullified_rows(event, fields, lambda reads: arrays_of(fields, event.record, reads))
    )
    if not wrong:
        return fields
    return {
        name: [None if w else v for v, w in zip(values, wrong[name].tolist(), strict=True)]
        if name in wrong
        else values
        for name, values in fields.items()
    }


def nullified_rows(
    event: EventType, fields: Mapping[str, Any] | Sequence[str], arrays: Any
) -> Iterator[tuple[str, BoolArray]]:
    """For each of the fields that counts as null somewhere: where.

    `arrays(reads)`: the arrays of these fields, as they came.
    """
    where: dict[str, BoolArray] = {}
    for check in event.checks_with("nullify"):
        if check.field is None or check.field not in fields:
            continue
        failed = violations(check, arrays(check.reads))
        if failed.any():
            where[check.field] = where.get(check.field, False) | failed
    yield from where.items()


def violations(check: Check, events: Columns) -> BoolArray:
    """Which events violate a check. One with a null in a field that the check reads does not; one
    for which the check fails with an error does."""
    columns = {field: events[field] for field in check.reads}
    n = len(columns[check.reads[0]])
    holds = run(check.holds, columns, n, name=f"check {check.name}")
    failed: BoolArray = nulls(holds) | ~np.asarray(holds).astype(bool)
    if not failed.any():
        return failed
    for values in columns.values():
        failed &= ~nulls(values)
    return failed

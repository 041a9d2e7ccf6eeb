"""Applies the checks of events: which events violate one, and which fields count as null.

Every check judges the event as it came, whatever another check nullifies.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np

from features.definitions.events import BoolArray, Check, Columns, EventType
from features.engine.columns import arrays_of, never_null
from features.engine.formulas import run_for_numbers
from features.engine.numbers import as_formula_inputs, nulls


def required_fields(event: EventType, fields: Sequence[str]) -> tuple[str, ...]:
    """The fields, those that their checks with `nullify` read, those that the checks of these read,
    and so on; each once."""
    reads = [f for c in event.checks_with("nullify") if c.field in fields for f in c.reads]
    needed = tuple(dict.fromkeys((*fields, *reads)))
    return needed if len(needed) == len(set(fields)) else required_fields(event, needed)


def nullifiable_fields(events: Iterable[EventType], record: type[msgspec.Struct]) -> frozenset[str]:
    """The fields that the record declares without null, and that a check of the events nullifies
    all the same."""
    nullified = {c.field for event in events for c in event.checks_with("nullify")}
    return never_null(record) & nullified


def nullified(
    event: EventType,
    fields: Mapping[str, Sequence[Any]],
    *,
    record: type[msgspec.Struct] | None = None,
) -> Mapping[str, Sequence[Any]]:
    """The fields, with None in place of the values that fail a check of `event` with `nullify`.

    `fields` has at least the `required_fields` of those that are used. `record`: whose fields they
    are, if not the event's.
    """
    wrong = dict(nullified_rows(event, fields, partial(arrays_of, fields, record or event.record)))
    if not wrong:
        return fields
    return {
        name: [None if w else v for v, w in zip(values, wrong[name].tolist(), strict=True)]
        if name in wrong
        else values
        for name, values in fields.items()
    }


def nullified_rows(
    event: EventType,
    fields: Collection[str],
    arrays: Callable[[Sequence[str]], Columns],
) -> Iterator[tuple[str, BoolArray]]:
    """For each of the fields that counts as null somewhere: where.

    `arrays(reads)`: the arrays of these fields, as they came.
    """
    where: dict[str, BoolArray] = {}
    checks = [c for c in event.checks_with("nullify") if c.field in fields]
    for check in checks:
        failed = violations(check, arrays(check.reads))
        if check.field is not None and failed.any():
            where[check.field] = where.get(check.field, False) | failed
    yield from where.items()


def violations(check: Check, events: Columns) -> BoolArray:
    """Which events violate a check. One with a null in a field that the check reads does not; one
    for which the check fails with an error, or gives no truth value, does."""
    columns = {field: events[field] for field in check.reads}
    n = len(columns[check.reads[0]])
    inputs = as_formula_inputs(columns)
    holds, raised = run_for_numbers(check.holds, inputs, n, name=f"check {check.name}")
    failed: BoolArray = raised | nulls(holds) | ~np.ma.getdata(holds).astype(bool)
    if not failed.any():
        return failed
    for values in columns.values():
        failed &= ~nulls(values)
    return failed

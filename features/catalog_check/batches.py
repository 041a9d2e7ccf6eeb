"""The columns that formulas are given, of made-up records."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from features.catalog_check.formulas import Batch, Formula, FormulaMistake, check_formula
from features.catalog_check.samples import Flavour, samples_of
from features.definitions import EventType, Float64Array
from features.definitions.lifecycle_views import AS_OF
from features.engine.columns import arrays_of, kinds
from features.engine.numbers import as_formula_inputs, nulls

USUAL: tuple[Flavour, ...] = ("usual", "extreme")
WITH_TIMES: tuple[Flavour, ...] = (*USUAL, "any unit")

Found = tuple[object, str, str | None]
"""A declaration, its mistake, and the remedy."""


def batches_of(
    event: EventType,
    *,
    flavours: Iterable[Flavour] = USUAL,
    numbers_only: bool = False,
    request: bool = False,
) -> list[Batch]:
    """Batches of an event's records, as formulas are given them.

    `numbers_only`: without texts. `request`: with the decision time beside the fields.
    """
    fields = [f for f, kind in kinds(event.record).items() if kind != "text" or not numbers_only]
    batches = []
    for flavour in flavours:
        samples = samples_of(event, flavour)
        columns = as_formula_inputs(arrays_of(samples.values, event.record, fields))
        times = samples.times
        if request:
            columns[AS_OF], times = columns["event_time_us"], times | {AS_OF}
        batches.append(Batch(columns=columns, times=times, usual=flavour == "usual"))
    return batches


def found_in(declaration: object, formula: Formula, batches: Iterable[Batch]) -> Iterator[Found]:
    """The mistakes of a formula, as those of its declaration."""
    for wrong in check_formula(formula, tuple(batches)):
        yield found(declaration, formula.who, wrong)


def found(declaration: object, who: str, wrong: FormulaMistake) -> Found:
    """A mistake in words."""
    return declaration, f"{who} {wrong.mistake}", wrong.remedy


def reported(batch: Batch, fields: Sequence[str]) -> Batch:
    """The records without a null in these fields: of the others a label is not asked."""
    known = ~np.logical_or.reduce([nulls(batch.columns[field]) for field in fields])
    columns = {name: column[known] for name, column in batch.columns.items()}
    return Batch(columns=columns, times=batch.times, usual=batch.usual)


def kept_numbers(event: EventType, field: str, batch: Batch) -> Float64Array:
    """A field as views keep it: NaN for null, also where a check of the event may nullify it."""
    values = np.array(batch.columns[field], np.float64)
    if any(check.field == field for check in event.checks_with("nullify")):
        values[::3] = np.nan
    return values

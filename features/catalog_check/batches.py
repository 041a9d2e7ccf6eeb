"""The columns that formulas are given, of made-up records."""

from collections.abc import Iterable, Iterator

import numpy as np

from features.catalog_check.formulas import Batch, Formula, FormulaMistake, check_formula
from features.catalog_check.samples import Flavour, samples_of
from features.definitions import EventType, Float64Array
from features.engine.columns import arrays_of, kinds
from features.engine.numbers import as_formula_inputs

USUAL: tuple[Flavour, ...] = ("usual", "extreme")
WITH_TIMES: tuple[Flavour, ...] = (*USUAL, "any unit")

Found = tuple[object, str, str | None]
"""A declaration, its mistake, and the remedy."""


def batches_of(
    event: EventType,
    *,
    flavours: Iterable[Flavour] = USUAL,
    numbers_only: bool = False,
) -> list[Batch]:
    """Batches of an event's records, as formulas are given them. `numbers_only`: without texts."""
    fields = [f for f, kind in kinds(event.record).items() if kind != "text" or not numbers_only]
    batches = []
    for flavour in flavours:
        samples = samples_of(event, flavour)
        columns = as_formula_inputs(arrays_of(samples.values, event.record, fields))
        batches.append(Batch(columns=columns, times=samples.times, usual=flavour == "usual"))
    return batches


def found_in(declaration: object, formula: Formula, batches: Iterable[Batch]) -> Iterator[Found]:
    """The mistakes of a formula, as those of its declaration."""
    for wrong in check_formula(formula, tuple(batches)):
        yield found(declaration, formula.who, wrong)


def found(declaration: object, who: str, wrong: FormulaMistake) -> Found:
    """A mistake in words."""
    return declaration, f"{who} {wrong.mistake}", wrong.remedy


def kept_numbers(event: EventType, field: str, batch: Batch) -> Float64Array:
    """A field as views keep it: NaN for null, also where a check of the event may nullify it."""
    values = np.array(batch.columns[field], np.float64)
    if any(check.field == field for check in event.checks_with("nullify")):
        values[::3] = np.nan
    return values

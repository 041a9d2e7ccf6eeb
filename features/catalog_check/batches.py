"""The columns that formulas are given, of made-up records."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from features.catalog_check.formulas import Batch, Formula, FormulaMistake, check_formula
from features.catalog_check.samples import Flavour, samples_of
from features.definitions import EventType
from features.engine.checks import nullify_invalid
from features.engine.columns import arrays_of, kinds

USUAL: tuple[Flavour, ...] = ("usual", "extreme")
WITH_TIMES: tuple[Flavour, ...] = (*USUAL, "any unit")

Found = tuple[object, str, str | None]
"""A declaration, its mistake, and the remedy."""


def batches_of(
    event: EventType,
    *,
    flavours: Iterable[Flavour] = USUAL,
    checked: bool = False,
    numbers_only: bool = False,
) -> list[Batch]:
    """Batches of an event's records. `checked`: its checks have nullified fields, as in features.
    `numbers_only`: without texts."""
    fields = [f for f, kind in kinds(event.record).items() if kind != "text" or not numbers_only]
    batches = []
    for flavour in flavours:
        samples = samples_of(event, flavour)
        columns = arrays_of(samples.values, event.record, fields)
        if checked:
            columns = dict(_nullified(event, columns))
        batches.append(Batch(columns=columns, times=samples.times, usual=flavour == "usual"))
    return batches


def found_in(declaration: object, formula: Formula, batches: Iterable[Batch]) -> Iterator[Found]:
    """The mistakes of a formula, as those of its declaration."""
    for wrong in check_formula(formula, tuple(batches)):
        yield found(declaration, formula.who, wrong)


def found(declaration: object, who: str, wrong: FormulaMistake) -> Found:
    """A mistake in words."""
    return declaration, f"{who} {wrong.mistake}", wrong.remedy


def _nullified(
    event: EventType, columns: dict[str, NDArray[np.generic]]
) -> dict[str, NDArray[np.generic]]:
    """The columns after the checks; those of a check that fails, which is reported, as they are."""
    try:
        with np.errstate(all="ignore"):
            return dict(nullify_invalid(event, columns))
    except Exception:  # noqa: BLE001  # the check is any code
        return columns

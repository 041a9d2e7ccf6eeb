"""The values of labels."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.definitions import BoolArray, Columns, Label
from features.engine.formulas import run
from features.engine.numbers import nulls
from features.errors import DeclarationError


class LabelValues(NamedTuple):
    """`values`: the label of each event. `known`: whether it has one."""

    values: BoolArray
    known: BoolArray


def label_values(label: Label, events: Columns) -> LabelValues:
    """The label of each event; each has a value in every field that the label reads.

    An event for which `value` fails, or gives null, says nothing about its decision. Failures are
    counted.

    Raises:
        DeclarationError: `value` gives something else than a truth value.
    """
    columns = {field: events[field] for field in label.reads}
    n = len(columns[label.reads[0]])
    values, failed = run(label.value, columns, n, name=f"label {label.name}")
    known = ~(failed | nulls(values))
    return LabelValues(_truths(label, np.ma.getdata(values), known), known)


def _truths(label: Label, values: NDArray[Any], known: BoolArray) -> BoolArray:
    """Truth values as such; 0 and 1 count as truth values too. False where none is known."""
    if values.dtype == np.bool_:
        return values & known
    truths = np.array([isinstance(v, int | float) and v in (0, 1) for v in values.tolist()], bool)
    if not (truths | ~known).all():
        example = values[known & ~truths].tolist()[0]
        raise DeclarationError(
            f"label {label.name}: its value is {example!r}, and a label is 0 or 1",
            hint='let `value` compare, such as `events["delay_minutes"] >= 15`',
        )
    return np.array([k and v == 1 for v, k in zip(values.tolist(), known.tolist(), strict=True)])

"""The values of labels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.definitions import BoolArray, Columns, Label
from features.errors import DeclarationError


def label_values(label: Label, events: Columns) -> BoolArray:
    """The label of each event; each has a value in every field that the label reads.

    Raises:
        DeclarationError: `value` raises, or gives something else than a truth value an event.
    """
    columns = {field: events[field] for field in label.reads}
    n = len(columns[label.reads[0]])
    try:
        values = np.asarray(label.value(columns))
    except Exception as error:  # any formula may raise on events that it does not expect
        raise DeclarationError(
            f"label {label.name}: `value` raises {type(error).__name__}: {error}"
        ) from error
    if values.shape != (n,):
        raise DeclarationError(
            f"label {label.name}: `value` gives an array of shape {values.shape} for {n} events",
            hint="return one truth value for each event",
        )
    return _truths(label, values)


def _truths(label: Label, values: NDArray[Any]) -> BoolArray:
    """Truth values as such; 0 and 1 count as truth values too."""
    if values.dtype == np.bool_:
        return values
    truths = np.array([isinstance(v, int | float) and v in (0, 1) for v in values.tolist()], bool)
    if not truths.all():
        example = values[~truths].tolist()[0]
        raise DeclarationError(
            f"label {label.name}: its value is {example!r}, and a label is 0 or 1",
            hint='let `value` compare, such as `events["delay_minutes"] >= 15`',
        )
    return np.asarray(values == 1, bool)

"""What the events of a label say about it: which of them bring a value, and the value itself."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.definitions import BoolArray, Columns, Label
from features.engine.checks import nullify_invalid, required_fields
from features.errors import DeclarationError


def label_fields(label: Label) -> tuple[str, ...]:
    """The fields of the label's source that decide what an event says: about which entity, whether
    it is known, and its value."""
    return required_fields(label.source, (label.entity_id, *label.reads))


def is_reported(label: Label, events: Columns) -> BoolArray:
    """Which events bring a value: those with a value in every field that the label reads.

    Null is "not known yet", and so is a value that a check nullifies. `events` has `label_fields`.
    """
    believed = nullify_invalid(label.source, events)
    missing = [_is_null(believed[field]) for field in (label.entity_id, *label.reads)]
    reported: BoolArray = ~np.logical_or.reduce(missing)
    return reported


def label_values(label: Label, events: Columns) -> BoolArray:
    """The label of each event; each has a value in every field that the label reads.

    Raises:
        DeclarationError: `value` gives something else than a truth value for each event.
    """
    columns = {field: events[field] for field in label.reads}
    n = len(columns[label.reads[0]])
    values = np.asarray(label.value(columns))
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


def _is_null(values: NDArray[Any]) -> BoolArray:
    if values.dtype.kind == "f":
        nan: BoolArray = np.isnan(values)
        return nan
    if values.dtype == object:
        return np.array([not isinstance(v, str) for v in values.tolist()], bool)
    return np.zeros(len(values), bool)

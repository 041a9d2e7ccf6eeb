"""Whether the arithmetic of a formula left 64 bits: numpy's integers then wrap round in silence.

The formula is computed again with floats. Where that gives about the same, nothing wrapped. Where
it does not (also for remainders of large numbers), Python's integers decide, which have no end.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.definitions.events import BoolArray
from features.engine.numbers import as_engine_array

Inputs = Mapping[Any, NDArray[Any]]

SMALL = 1 << 21
"""The product of three numbers up to this fits into 64 bits."""

TIMES = 1 << 53
"""No time of this millennium in microseconds is larger."""

_TOLERANCE = 1e-9


def wraps(
    compute: Callable[[Inputs], Any], inputs: Inputs, values: NDArray[Any], *, trusted: int
) -> bool:
    """Whether some of the values that a formula gave for these inputs are wrong for that reason.

    Values for numbers up to `trusted` are not looked at. A formula that does not work with Python's
    integers is trusted, too.
    """
    integers = {name for name, v in inputs.items() if v.dtype.kind == "i"}
    large = _large_rows([inputs[name] for name in integers], len(values), trusted)
    large &= ~np.ma.getmaskarray(values)
    if not large.any() or values.dtype.kind not in "bif":
        return False
    given = {name: v[large] for name, v in inputs.items()}
    for type_ in (np.float64, object):
        other = {n: v.astype(type_) if n in integers else v for n, v in given.items()}
        again = _computed(compute, other)
        if again is not None and _equal(again, np.ma.getdata(values)[large], exact=type_ is object):
            return False
    return again is not None


def _large_rows(integers: list[NDArray[Any]], n: int, trusted: int) -> BoolArray:
    large = np.zeros(n, bool)
    for values in integers:
        large |= (values > trusted) | (values < -trusted)
    return large


def _computed(compute: Callable[[Inputs], Any], inputs: Inputs) -> NDArray[Any] | None:
    try:
        with np.errstate(all="ignore"):
            return as_engine_array(compute(dict(inputs)))
    except Exception:  # noqa: BLE001  # a formula need not work with other types
        return None


def _equal(again: NDArray[Any], values: NDArray[Any], *, exact: bool) -> bool:
    again = np.ma.getdata(again)
    if again.shape not in (values.shape, ()):
        return False
    if values.dtype.kind == "b" or (exact and values.dtype.kind == "i"):
        return bool((again == values).all())
    try:
        floats = again.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        return False
    return bool(np.isclose(floats, values, rtol=_TOLERANCE, atol=0.5, equal_nan=True).all())

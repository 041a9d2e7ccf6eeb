"""Calls the formulas of declarations: a formula is any code, so what it gives is checked each time.

A formula over events that fails for one of them raises `FormulaFailed`, and ingest sends that event
to the dead letters: a stored number is never made of nothing. A formula over a request gives null
for the requests that it fails for; this is counted and logged.
"""

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import structlog
from numpy.typing import NDArray
from prometheus_client import Counter

from features.definitions.events import BoolArray, Columns
from features.errors import FormulaFailed

log = structlog.get_logger()

FAILURES = Counter(
    "eventide_formula_failures", "Requests for which a formula failed and gave null", ["formula"]
)

NUMBERS: Final = "iufb"  # kinds of numpy's types
TRUTH_VALUES: Final = "b"
WHOLE: Final = "iu"
CATEGORIES: Final = "OUiufb"


def event_values(
    formula: str, compute: Callable[[Columns], Any], columns: Columns, *, kinds: str = NUMBERS
) -> NDArray[Any]:
    """What a formula gives for each event.

    Raises:
        FormulaFailed: it raised, or gives no value of these kinds for each event.
    """
    n = len(next(iter(columns.values()), ()))
    try:
        values = compute(columns)
    except Exception as error:
        raise FormulaFailed(formula, f"raised {type(error).__name__}") from error
    if why := _mismatch(values, n, kinds):
        raise FormulaFailed(formula, why)
    return np.asarray(values)


def request_values_or_null(
    formula: str, compute: Callable[[slice], Any], n: int, *, kinds: str = NUMBERS
) -> tuple[NDArray[Any], BoolArray]:
    """What a formula gives for each of `n` requests, and for which of them it failed.

    `compute` is given the requests as a slice. When it fails for all of them together, it is called
    for each one alone. The value of one that it fails for means nothing.
    """
    values = _attempt(compute, slice(None), n, kinds)
    if not isinstance(values, str):
        return values, np.zeros(n, bool)
    alone = [_attempt(compute, slice(i, i + 1), 1, kinds) for i in range(n)]
    failed = np.array([isinstance(v, str) for v in alone], bool)
    if failed.any():
        why = next(v for v in alone if isinstance(v, str))
        _count(formula, int(failed.sum()), why)
    made = [v for v in alone if not isinstance(v, str)]
    dtype = np.result_type(*made) if made else np.dtype(np.float64)
    result = np.zeros(n, dtype)
    if made:
        result[~failed] = np.concatenate(made)
    return result, failed


def numbers_or_null(formula: str, compute: Callable[[slice], Any], n: int) -> NDArray[np.float64]:
    """`request_values_or_null` as float64, with NaN for null."""
    values, failed = request_values_or_null(formula, compute, n)
    numbers = np.asarray(values, np.float64)
    return np.where(failed, np.nan, numbers) if failed.any() else numbers


def function_values_or_null(formula: str, call: Callable[[], Any], n: int) -> list[float]:
    """The `n` numbers that a function gives for one request; all NaN where it fails."""
    try:
        values = [float(v) for v in call()]
        why = "" if len(values) == n else f"gave {len(values)} values, not {n}"
    except Exception as error:  # noqa: BLE001  # a formula is any code
        values, why = [], f"raised {type(error).__name__}"
    if why:
        _count(formula, 1, why)
    return [math.nan] * n if why else values


def _count(formula: str, requests: int, why: str) -> None:
    FAILURES.labels(formula=formula).inc(requests)
    log.warning("formula_failed", formula=formula, requests=requests, why=why)


def _attempt(
    compute: Callable[[slice], Any], part: slice, n: int, kinds: str
) -> NDArray[Any] | str:
    """The values, or why there are none."""
    try:
        values = compute(part)
    except Exception as error:  # noqa: BLE001  # a formula is any code
        return f"raised {type(error).__name__}"
    return _mismatch(values, n, kinds) or np.asarray(values)


def _mismatch(values: Any, n: int, kinds: str) -> str:
    """Why these are not `n` values of these kinds; empty if they are."""
    array = values if isinstance(values, np.ndarray) else np.asarray(values)
    if array.shape != (n,):
        return f"gave an array of the shape {array.shape} for {n} records"
    if n and array.dtype.kind not in kinds:
        return f"gave values of the type {array.dtype}"
    return ""

"""Runs the formulas of declarations. Whatever they do, each row has a value or none.

A formula is code of the user: it may raise on a strange row, or give something else than one value
a row. Then that row has no value, the others keep theirs, and the failure is counted under the
formula's name. The same rows have no value live, in history and in a rebuild.
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.definitions.events import BoolArray, Columns, Float64Array, Int64Array
from features.engine.counts import Counts
from features.engine.numbers import as_engine_array, as_formula_input, as_formula_inputs, nulls
from features.engine.wrapping import TIMES, Inputs, wraps

Compute = Callable[[Inputs], Any]


BEYOND = "beyond 64 bits"

FAILURES: Counts[tuple[str, str]] = Counts()
"""Rows without a usable value in this process, by formula and reason. A reason is one of few words,
such as the name of an error."""


@dataclass(frozen=True, kw_only=True)
class Formula:
    """A formula of a declaration, and what it reads.

    `name` says where it stands, such as `shop_sales.price`. `strict`: the fields of `reads` that
    their record declares without null. Where a check has nullified one, the formula is not asked.
    `trusted`: see `run`.
    """

    name: str
    compute: Compute
    reads: Sequence[str]
    strict: Collection[str] = ()
    trusted: int | None = TIMES

    def values(self, columns: Columns, n: int) -> "Outcome":
        """One value for each of `n` rows, as an array of the engine: masked, NaN or None where
        there is none."""
        exact = {field: columns[field] for field in self.reads}
        absent = np.zeros(n, bool)
        for field in self.strict:
            absent |= nulls(exact[field])
        if not absent.any():
            return self._ask(exact, n)
        rows = np.flatnonzero(~absent)
        asked = {field: values[rows] for field, values in exact.items()}
        for field in self.strict:
            asked[field] = np.ma.getdata(asked[field])
        outcome = self._ask(asked, len(rows))
        failed = np.zeros(n, bool)
        failed[rows] = outcome.failed
        return Outcome(scattered(outcome.values, rows, n), failed)

    def _ask(self, exact: Columns, n: int) -> "Outcome":
        """The values; of a formula that gives a field as it is, the field with all its bits."""
        inputs = read_only(as_formula_inputs(exact))
        outcome = run(self.compute, inputs, n, name=self.name, trusted=self.trusted)
        same = (exact[field] for field, given in inputs.items() if outcome.values is given)
        return Outcome(next(same, outcome.values), outcome.failed)


class Outcome(NamedTuple):
    """The values of a formula, and on which rows it failed, which have none."""

    values: NDArray[Any]
    failed: BoolArray


def run(
    compute: Compute, inputs: Inputs, n: int, *, name: str, trusted: int | None = TIMES
) -> Outcome:
    """The values of a formula for `n` rows; none where it fails, which is counted.

    `trusted`: up to which numbers its arithmetic cannot leave 64 bits; None: its inputs are small.
    """
    inputs = read_only(inputs)
    values = attempt(compute, dict(inputs), n)
    if not isinstance(values, str) and _wraps(compute, inputs, values, trusted):
        values = BEYOND
    if not isinstance(values, str):
        return Outcome(values, np.zeros(n, bool))
    pieces = list(_pieces(compute, inputs, np.arange(n), name, trusted))
    rows = np.concatenate([np.empty(0, np.int64), *(rows for rows, _ in pieces)])
    arrays = [values for _, values in pieces] or [np.empty(0, np.float64)]
    failed = np.ones(n, bool)
    failed[rows] = False
    return Outcome(scattered(_joined(arrays), rows, n), failed)


def read_only(inputs: Inputs) -> dict[Any, NDArray[Any]]:
    """The arrays, which a formula cannot write into: they are the engine's own."""
    return {name: _locked(values) for name, values in inputs.items()}


def run_for_numbers(compute: Compute, inputs: Inputs, n: int, *, name: str) -> Outcome:
    """See `run`: the formula fails also where it gives anything but a number."""
    return numbers(run(compute, inputs, n, name=name), name=name)


def numbers(outcome: Outcome, *, name: str) -> Outcome:
    """The outcome as numbers: the formula failed where it gave anything else."""
    values, failed = outcome
    if values.dtype.kind not in "OU":
        return outcome
    as_numbers = [_number(v) for v in values.tolist()]
    wrong = np.array([f is None for f in as_numbers], bool)
    FAILURES.add((name, "not a number"), int(wrong.sum()))
    return Outcome(np.array([math.nan if f is None else f for f in as_numbers]), failed | wrong)


def floats(outcome: Outcome, *, name: str) -> Float64Array:
    """The outcome as float64; NaN where the formula gave no number."""
    return np.asarray(as_formula_input(numbers(outcome, name=name).values), np.float64)


def _locked(values: NDArray[Any]) -> NDArray[Any]:
    if not values.flags.writeable:
        return values
    view = values.view()
    view.flags.writeable = False
    return view


def _number(value: Any) -> float | None:
    """NaN for null, None for what is no number."""
    if value is None:
        return math.nan
    if isinstance(value, str):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def scattered(values: NDArray[Any], rows: Int64Array, n: int) -> NDArray[Any]:
    """An array of `n` rows with these values at `rows`, and without a value elsewhere."""
    if values.dtype.kind == "f" and not isinstance(values, np.ma.MaskedArray):
        floats = np.full(n, np.nan)
        floats[rows] = values
        return floats
    if values.dtype.kind in "OU":
        texts = np.full(n, None, object)
        texts[rows] = values
        return texts
    type_ = np.uint64 if values.dtype.kind == "u" else np.int64
    integers = np.ma.MaskedArray(np.zeros(n, type_), mask=np.ones(n, bool))
    integers[rows] = values
    return integers


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """The arrays one after the other, as an array of the engine."""
    if not any(isinstance(part, np.ma.MaskedArray) for part in parts):
        return np.concatenate(parts)
    return as_engine_array(np.ma.concatenate(parts))  # type: ignore[no-untyped-call]


def attempt(compute: Compute, inputs: Inputs, n: int) -> NDArray[Any] | str:
    """The formula's values as an array of the engine, or why there are none."""
    try:
        with np.errstate(all="ignore"):
            values = as_engine_array(compute(inputs))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  # also SystemExit, and the panics of libraries
        return type(error).__name__
    if values.shape == ():  # a constant
        values = np.repeat(values, n)
    if values.shape != (n,):
        return "not one value a row"
    return values if values.dtype.kind in "biufOU" else "not a number or a text"


def _wraps(compute: Compute, inputs: Inputs, values: NDArray[Any], trusted: int | None) -> bool:
    return trusted is not None and wraps(compute, inputs, values, trusted=trusted)


def _pieces(
    compute: Compute, inputs: Inputs, rows: Int64Array, name: str, trusted: int | None
) -> Iterator[tuple[Int64Array, NDArray[Any]]]:
    """(rows, values) of the parts for which a formula works: halves, until the rows on which it
    fails are alone. One bad row among n costs 2 log2 n attempts."""
    if not len(rows):
        return
    own = read_only({f: v[rows] for f, v in inputs.items()})
    values = attempt(compute, dict(own), len(rows))
    if not isinstance(values, str) and _wraps(compute, own, values, trusted):
        values = BEYOND
    if not isinstance(values, str):
        yield rows, values
    elif len(rows) == 1:
        FAILURES.add((name, values), 1)
    else:
        for half in np.array_split(rows, 2):
            yield from _pieces(compute, inputs, half, name, trusted)

"""Runs one formula of a declaration on made-up records, and says what is wrong with it."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from features.catalog_check.samples import is_time_us
from features.definitions import Columns
from features.definitions.label_trial import untrue
from features.definitions.validation import near, with_article
from features.engine.request_columns import category_texts
from features.identity.errors import NoStableIdentity
from features.identity.formulas import identity_of
from infra.clock import MILLISECOND, SECOND

Gives = Literal["numbers", "truth values", "labels", "times", "categories"]
_DTYPES: Mapping[Gives, str] = {
    "numbers": "iufb",
    "truth values": "b",
    "labels": "biufO",  # that they are 0, 1 or null is checked in `_values`
    "times": "iu",
    "categories": "OUiufb",
}
_KINDS = {
    **dict.fromkeys("iu", "whole numbers"),
    "f": "numbers with fractions",
    "b": "truth values",
    "U": "texts",
    "O": "objects",
}


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Columns of records that a formula may be given. `times`: those that hold times."""

    columns: Columns
    times: frozenset[str]
    usual: bool

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))


@dataclass(frozen=True, kw_only=True)
class Formula:
    """A function over columns. `reads`: the fields that it is given; None: all of them.
    `reads_all`: whether it has to use each of them."""

    who: str
    compute: Callable[[Columns], Any]
    gives: Gives
    reads: tuple[str, ...] | None
    reads_all: bool = True


class FormulaMistake(Exception):
    """What is wrong with a formula, and what to do."""

    def __init__(self, mistake: str, remedy: str | None = None) -> None:
        self.mistake, self.remedy = mistake, remedy
        super().__init__(mistake)


def check_formula(formula: Formula, batches: Sequence[Batch]) -> Iterator[FormulaMistake]:
    """What is wrong with a formula: first what it reads, then what it gives."""
    touched: set[str] = set()
    try:
        identity = Stability(formula.compute)
        for batch in batches:
            touched |= _touched(formula, batch)
        _check_reads(formula, touched)
        for batch in batches:
            _check_values(formula, batch)
        if formula.gives == "times":
            _check_times(formula, batches, touched)
        identity.check()
    except FormulaMistake as wrong:
        yield wrong
        return
    superfluous = sorted(set(formula.reads or ()) - touched) if formula.reads_all else []
    if superfluous and all(_same_without(formula, b, superfluous) for b in batches):
        yield FormulaMistake(
            f"does not use {superfluous} of its `reads`", "take them out of `reads`"
        )


class Stability:
    """The identity of a formula before it runs, to be compared with that afterwards."""

    def __init__(self, compute: Callable[..., Any]) -> None:
        self._compute, self._before = compute, _identity(compute)

    def check(self) -> None:
        """Raises FormulaMistake: it has no identity, or running it has changed it."""
        if isinstance(self._before, NoStableIdentity):
            where = "".join(f"{name} -> " for name in self._before.trail[1:])
            raise FormulaMistake(
                f"has no stable identity: {where}{self._before.what}", self._before.hint
            )
        if self._before != _identity(self._compute):
            raise FormulaMistake(
                "changes what it depends on while it runs",
                "let it depend on its arguments and on constants only",
            )


def _identity(compute: Callable[..., Any]) -> str | NoStableIdentity:
    try:
        return identity_of(compute, "it").digest
    except NoStableIdentity as error:
        return error


def touched_by(formula: Formula, batches: Iterable[Batch]) -> set[str]:
    """The fields that a formula uses; all that it may use, if it fails."""
    try:
        return set().union(*(_touched(formula, batch) for batch in batches))
    except FormulaMistake:
        return set().union(formula.reads or (), *(batch.columns for batch in batches))


def run(compute: Callable[..., Any], *given: Any, shown: str) -> Any:
    """The result of a formula. Its arrays cannot be written; a cast of null to a number is an
    error, as its result is no number.

    Raises:
        FormulaMistake: it raised.
    """
    try:
        with np.errstate(all="ignore", invalid="warn"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", "invalid value encountered in cast")
            return compute(*given)
    except RuntimeWarning:
        raise FormulaMistake(f"makes a whole number of null or infinity, for {shown}") from None
    except ValueError as error:
        if "read-only" in str(error):
            raise FormulaMistake("writes into its input", "let it return a new array") from None
        raise _raised(error, shown) from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  # also SystemExit, and panics of libraries
        raise _raised(error, shown) from None


def frozen(columns: Columns, fields: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
    """Copies of columns that cannot be written."""
    copies = {f: columns[f].copy() for f in (columns if fields is None else fields)}
    for column in copies.values():
        column.flags.writeable = False
    return copies


def same_values(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether two results are equal; NaN is equal to itself."""
    if a.shape != b.shape:
        return False
    if a.dtype.kind == "f" or b.dtype.kind == "f":
        return bool(np.array_equal(a.astype(float), b.astype(float), equal_nan=True))
    return bool(np.array_equal(a, b))


def shown_record(columns: Columns, row: int) -> str:
    """A made-up record in words, such as `cents=1, city=None`."""
    fields = [f"{name}={column[row : row + 1].tolist()[0]!r}" for name, column in columns.items()]
    return ", ".join([*fields[:5], "..."] if len(fields) > 5 else fields) or "a record"


class Traced(dict[str, Any]):
    """Columns that note which of them are used."""

    def __init__(self, columns: Mapping[str, Any]) -> None:
        super().__init__(columns)
        self.touched: set[str] = set()
        self.unknown: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.touched.add(name)
        return super().__getitem__(name)

    def __missing__(self, name: str) -> Any:
        self.unknown.add(name)
        raise KeyError(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.touched.add(name)
        return super().get(name, default)


def _touched(formula: Formula, batch: Batch) -> set[str]:
    """The fields that a formula uses, whatever its `reads` say."""
    traced = Traced(frozen(batch.columns))
    try:
        run(formula.compute, traced, shown="")
    except FormulaMistake:
        if traced.unknown:
            raise _unknown(str(min(traced.unknown, key=str)), traced) from None
    return traced.touched


def _unknown(name: str, columns: Iterable[str]) -> FormulaMistake:
    """A name that is not given; `request x` is the field x of the request."""
    own, _, part = name.rpartition(" ")[::-1]
    of = f" of the {part}" if part else ""
    return FormulaMistake(f"reads {own!r}{of}, which it is not given", near(name, columns))


def _check_reads(formula: Formula, touched: set[str]) -> None:
    reads = touched if formula.reads is None else formula.reads
    if unread := sorted(touched.difference(reads)):
        raise FormulaMistake(
            f"reads {unread}, which its `reads` do not name", f"add {unread} to `reads`"
        )


def _check_values(formula: Formula, batch: Batch) -> None:
    """One value for each record, of the right type, the same again and for each record alone."""
    columns = frozen(batch.columns, formula.reads)
    n = len(batch)
    none = {name: column[:0] for name, column in columns.items()}
    _values(formula, none, 0, "no record at all")
    rows = [
        _values(formula, {f: c[i : i + 1] for f, c in columns.items()}, 1, shown_record(columns, i))
        for i in range(n)
    ]
    together = _values(formula, columns, n, f"{n} records at once")
    again = _values(formula, columns, n, f"{n} records at once")
    if not same_values(together, again):
        raise FormulaMistake("gives another result when it is called again")
    for i, alone in enumerate(rows):
        if not _same_row(formula, alone, together[i : i + 1]):
            raise FormulaMistake(
                f"gives {alone[0]!s} for {shown_record(columns, i)} alone,"
                f" and {together[i]!s} among others",
                "a record's value must not depend on the records beside it",
            )
    if batch.usual and together.dtype.kind == "f" and np.isinf(together).any():
        row = int(np.flatnonzero(np.isinf(together))[0])
        raise FormulaMistake(
            f"gives infinity for {shown_record(columns, row)}", "give NaN where there is no value"
        )


def _same_row(formula: Formula, alone: NDArray[Any], among: NDArray[Any]) -> bool:
    """A category is compared as the text that a model is given: `5` is another one than `5.0`."""
    if formula.gives == "categories":
        texts = [category_texts(values, name=formula.who) for values in (alone, among)]
        return texts[0] == texts[1]
    return same_values(alone, among)


def _values(formula: Formula, columns: Columns, n: int, shown: str) -> NDArray[Any]:
    result = run(formula.compute, columns, shown=shown)
    if not isinstance(result, np.ndarray):
        kind = with_article(type(result).__name__)
        raise FormulaMistake(f"gives {kind} for {shown}, not an array with a value for each record")
    if isinstance(result, np.ma.MaskedArray):
        raise FormulaMistake(
            f"gives a masked array for {shown}", "give NaN where there is no value"
        )
    if result.shape != (n,):
        raise FormulaMistake(
            f"gives an array of the shape {result.shape} for {shown}, where it has to be ({n},)"
        )
    if n and result.dtype.kind not in _DTYPES[formula.gives]:
        kind = _KINDS.get(result.dtype.kind, str(result.dtype))
        raise FormulaMistake(f"gives {kind} for {shown}, not {formula.gives}")
    if formula.gives == "labels" and (other := untrue(result)) is not None:
        raise FormulaMistake(f"gives {other!r} for {shown}, and a label is 0 or 1")
    if formula.gives == "categories" and result.dtype.kind == "O":
        strange = [v for v in result.tolist() if not isinstance(v, str | int | float | None)]
        if strange:
            raise FormulaMistake(
                f"gives {with_article(type(strange[0]).__name__)} for {shown}, not a text"
            )
    return result


def _check_times(formula: Formula, batches: Sequence[Batch], touched: set[str]) -> None:
    """Times in microseconds: for usual times in every record, else for one record at least."""
    example, any_time = None, False
    for batch in batches:
        columns = frozen(batch.columns, formula.reads)
        values = _values(formula, columns, len(batch), "records").tolist()
        wrong = [i for i, v in enumerate(values) if not is_time_us(v)]
        any_time = any_time or len(wrong) < len(values)
        if wrong and (example is None or (batch.usual and touched & batch.times)):
            example = _no_time(values[wrong[0]], shown_record(columns, wrong[0]))
            if batch.usual and touched & batch.times:
                raise example
    if example is not None and not any_time:
        raise example


def _no_time(value: float, shown: str) -> FormulaMistake:
    scales = {"seconds": SECOND, "milliseconds": MILLISECOND, "nanoseconds": 1 / 1_000}
    unit = next((u for u, scale in scales.items() if is_time_us(value * scale)), None)
    return FormulaMistake(
        f"gives {value} for {shown}, which is no time in microseconds since 1970",
        f"are these {unit}?" if unit else None,
    )


def _same_without(formula: Formula, batch: Batch, fields: Sequence[str]) -> bool:
    """Whether it gives the same without these fields."""
    assert formula.reads is not None
    columns = frozen(batch.columns, [f for f in formula.reads if f not in fields])
    try:
        without = run(formula.compute, columns, shown="")
    except FormulaMistake:
        return False
    whole = run(formula.compute, frozen(batch.columns, formula.reads), shown="")
    return same_values(whole, without)


def _raised(error: BaseException, shown: str) -> FormulaMistake:
    return FormulaMistake(f"raised {type(error).__name__} for {shown}: {str(error)[:200]}")

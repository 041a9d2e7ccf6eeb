"""The int64 columns that aggregations keep of events: how they are computed and merged."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from features.definitions.events import BoolArray, Column, Columns, Int64Array
from features.definitions.operations import StateColumnKind
from features.definitions.views import CalendarView, FeatureView
from features.engine.checks import nullifiable_fields
from features.engine.columns import may_be_wide
from features.engine.digests import digests
from features.engine.formulas import FAILURES, Formula, Outcome, numbers
from features.engine.numbers import (
    INVALID,
    LARGEST,
    as_formula_input,
    nulls,
    number_codes,
    sortable,
    whole,
)
from features.engine.rows import ColumnMaker
from features.engine.sorting import HIGHEST, UNSET
from features.engine.wrapping import SMALL

_COMBINE: Mapping[StateColumnKind, np.ufunc] = {
    "sum": np.add,
    "number": np.add,
    "lowest": np.minimum,
    "highest": np.maximum,
}


UNFIT = "no whole number of 64 bits"


@dataclass(frozen=True)
class StateColumn:
    """One column of the state: a kind (see `StateColumnKind`) and what it is kept of.

    `of`: the name of the declared column or of the field. `declared`: the declared column; None for
    a field. `strict`: the fields that it reads whose record allows no null, while a check may
    nullify them. `trusted`: see `formulas.run`. `view`: the name of its view.
    """

    kind: StateColumnKind
    of: str
    declared: Column | None
    strict: tuple[str, ...] = ()
    trusted: int | None = None
    view: str = ""

    @property
    def name(self) -> str:
        """Such as `sum:delay`. It is part of the schema id, so it must not change."""
        return column_name(self.kind, self.of)

    @property
    def reads(self) -> tuple[str, ...]:
        """The fields that it is computed from."""
        if self.declared is None:
            return (self.of,)
        return self.declared.reads or ("event_time_us",)  # a constant is as long as the events

    @property
    def combine(self) -> np.ufunc | None:
        """How the values of merged rows are combined; None: only rows of equal values merge."""
        return _COMBINE.get(self.kind)

    @property
    def maker(self) -> tuple[Sequence[str], ColumnMaker]:
        """The fields that it reads, and how it is computed from them."""
        return self.reads, partial(_column_values, self)


def column_name(kind: StateColumnKind, of: str) -> str:
    """The name of the state column of that kind."""
    return f"{kind}:{of}"


def state_columns(view: FeatureView | CalendarView) -> tuple[StateColumn, ...]:
    """The columns that the operations of a view need, each once."""
    columns = []
    for aggregation in view.aggregations:
        of = aggregation.column or ""
        for kind in aggregation.definition.keeps:
            column = _state_column(view, kind, of)
            columns.append(column)
            if kind == "sum" and column.declared is not None and column.declared.scale is not None:
                columns.append(_state_column(view, "number", of))
    if isinstance(view, FeatureView) and view.exclude_self is not None:
        columns.append(_state_column(view, "code", view.exclude_self))
    return tuple(dict.fromkeys(columns))


def codes(values: NDArray[Any]) -> Int64Array:
    """Texts and numbers as int64 that are equal where they are; UNSET for null."""
    return digests(values) if values.dtype.kind in "OU" else number_codes(values)


def may_have_wide_codes(record: type[Struct], columns: Iterable[StateColumn]) -> tuple[str, ...]:
    """The columns whose codes are of integers that may lie beyond 2^53. They were the codes of
    floats, which do not tell such integers apart; so they are of another schema."""
    return tuple(
        c.name
        for c in columns
        if c.kind == "code" and any(may_be_wide(record, field) for field in c.reads)
    )


def _state_column(view: FeatureView | CalendarView, kind: StateColumnKind, of: str) -> StateColumn:
    declared = next((c for c in view.columns if c.name == of), None)
    nullifiable = nullifiable_fields([view.source], view.source.record)
    reads = declared.reads if declared is not None else ()
    strict = tuple(field for field in reads if field in nullifiable)
    large = any(may_be_wide(view.source.record, field, SMALL) for field in reads)
    return StateColumn(kind, of, declared, strict, SMALL if large else None, view.name)


def _column_values(column: StateColumn, events: Columns) -> Int64Array:
    kind, declared = column.kind, column.declared
    if declared is None:
        return _kept(kind, events[column.of])
    formula = Formula(
        name=f"{column.view}.{column.of}",
        compute=declared.compute,
        reads=column.reads,
        strict=column.strict,
        trusted=column.trusted,
    )
    outcome = formula.values(events, len(events[column.reads[0]]))
    if kind != "code" or declared.scale is not None:
        outcome = numbers(outcome, name=formula.name)
    values, failed = outcome
    if kind == "code" and values.dtype == object:
        return _codes_of_objects(formula.name, values)
    if kind == "number":
        return (failed | ~nulls(values)).astype(np.int64)
    if kind == "sum":
        return _added(formula.name, declared.scale, values, failed)
    if declared.scale is None or values.dtype.kind in "biu":  # rounding leaves a whole number
        return _kept(kind, values)
    with np.errstate(over="ignore"):
        rounded = np.rint(as_formula_input(values) * declared.scale) / declared.scale
    return _kept(kind, np.where(np.isfinite(rounded), rounded, np.nan))


def _codes_of_objects(name: str, values: NDArray[Any]) -> Int64Array:
    """Codes of texts and numbers side by side; null for what is neither, which is counted."""
    code_of_row = digests(values)
    rows = [i for i, v in enumerate(values.tolist()) if v is not None and not isinstance(v, str)]
    others = Outcome(values[rows], np.zeros(len(rows), bool))
    code_of_row[rows] = number_codes(numbers(others, name=name).values)
    return code_of_row


def _kept(kind: StateColumnKind, values: NDArray[Any]) -> Int64Array:
    if kind == "code":
        return codes(values)
    return sortable(values, missing=HIGHEST if kind == "lowest" else UNSET)


def _added(name: str, scale: int | None, values: NDArray[Any], failed: BoolArray) -> Int64Array:
    """Whole numbers to add. An event without a value has UNSET, or 0 where there is a scale and so
    a `number` beside it; one with a value that does not fit has INVALID."""
    missing = nulls(values)
    added = whole(values, missing=INVALID) if scale is None else _scaled(values, scale)
    unfit = (added <= INVALID) & ~missing
    if unfit.any():
        FAILURES.add((name, UNFIT), int(unfit.sum()))
    if failed.any() or missing.any():
        added = np.where(missing, UNSET if scale is None else 0, added)
    return np.where(unfit | failed, INVALID, added)


def _scaled(values: NDArray[Any], scale: int) -> Int64Array:
    """`round(value * scale)`; INVALID for what does not fit into 64 bits."""
    if values.dtype.kind in "biu":
        integers = whole(values, missing=INVALID)
        fits = np.abs(np.maximum(integers, -LARGEST)) <= LARGEST // scale
        return np.where(fits, np.where(fits, integers, 0) * scale, INVALID)
    with np.errstate(over="ignore", invalid="ignore"):
        return whole(np.rint(values * scale), missing=INVALID)

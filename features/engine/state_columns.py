"""The int64 columns that aggregations keep of events: how they are computed and merged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.definitions.events import Column, Columns, Int64Array
from features.definitions.operations import StateColumnKind
from features.definitions.views import CalendarView, FeatureView
from features.engine.digests import digests
from features.engine.formulas import event_values
from features.engine.numbers import sortable, whole
from features.engine.rows import ColumnMaker
from features.engine.sorting import HIGHEST, UNSET

_COMBINE: Mapping[StateColumnKind, np.ufunc] = {
    "sum": np.add,
    "number": np.add,
    "lowest": np.minimum,
    "highest": np.maximum,
}


@dataclass(frozen=True)
class StateColumn:
    """One column of the state: a kind (see `StateColumnKind`) and what it is kept of.

    `of`: the name of the declared column or of the field. `declared`: the declared column; None for
    a field.
    """

    kind: StateColumnKind
    of: str
    declared: Column | None
    view: str = ""  # for errors

    @property
    def name(self) -> str:
        """Such as `sum:delay`. It is part of the schema id, so it must not change."""
        return column_name(self.kind, self.of)

    @property
    def reads(self) -> tuple[str, ...]:
        """The fields that it is computed from."""
        return (self.of,) if self.declared is None else self.declared.reads

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
    declared = {c.name: c for c in view.columns}
    columns = []
    for aggregation in view.aggregations:
        of = aggregation.column or ""
        column = declared.get(of)
        for kind in aggregation.definition.keeps:
            columns.append(StateColumn(kind, of, column, view.name))
            if kind == "sum" and column is not None and column.scale is not None:
                columns.append(StateColumn("number", of, column, view.name))
    if isinstance(view, FeatureView) and view.exclude_self is not None:
        field = view.exclude_self
        columns.append(StateColumn("code", field, declared.get(field), view.name))
    return tuple(dict.fromkeys(columns))


def codes(values: NDArray[Any]) -> Int64Array:
    """Texts and numbers as int64 that are equal where they are; UNSET for null."""
    return digests(values) if values.dtype == object else sortable(values)


def _column_values(column: StateColumn, events: Columns) -> Int64Array:
    kind, declared = column.kind, column.declared
    if declared is None:
        values = events[column.of]
        return codes(values) if kind == "code" else _field_values(kind, values)
    who = f"view {column.view}: column {declared.name!r}"
    values = event_values(who, declared.compute, events)
    if declared.scale is None:
        return _field_values(kind, values)
    if kind in ("sum", "number"):
        exists = ~np.isnan(values)
        rounded = np.where(exists, np.rint(values * declared.scale), 0)
        return whole(exists if kind == "number" else rounded)
    return _field_values(kind, np.rint(values * declared.scale) / declared.scale)


def _field_values(kind: StateColumnKind, values: NDArray[Any]) -> Int64Array:
    if kind == "sum":
        return whole(values)
    return sortable(values, missing=HIGHEST if kind == "lowest" else UNSET)

"""What views of aggregations share, whether over windows or over calendar spans."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.definitions.events import BoolArray, Column, Columns, EventType, Int64Array
from features.definitions.views import CalendarView, FeatureView
from features.engine.columns import Kind, array_of, kinds
from features.engine.numbers import INVALID, as_formula_inputs, whole
from features.engine.rows import LazyColumns, PointInTimeRows
from features.engine.sorting import UNSET
from features.engine.state import ViewState, reduce_runs
from features.engine.state_columns import StateColumn, may_have_wide_codes, state_columns
from features.engine.sums import runs_that_fit
from features.engine.value_limits import ValueLimits
from features.engine.window_aggregates import SumTable
from features.errors import DeclarationError


class AggregateState(ViewState):
    """The state of a view of aggregations: a row is the events of one time, which is its key."""

    view: FeatureView | CalendarView

    def __init__(
        self,
        view: FeatureView | CalendarView,
        *dependencies: object,
        time_field: str,
        limits: Sequence[object] = (),
        value_limits: ValueLimits,
    ) -> None:
        """`time_field`: the field of the event that is its time, in microseconds."""
        self._time_field = time_field
        self._state_columns = state_columns(view)
        self._sum_table = SumTable(self._state_columns)
        self._sums = tuple(c.name for c in self._state_columns if c.kind == "sum")
        declared = [c.declared for c in self._state_columns if c.declared is not None]
        formulas = [(c.name, c.reads, c.scale, c.compute) for c in declared]
        wide = may_have_wide_codes(view.source.record, self._state_columns)
        super().__init__(
            view,
            [c.name for c in self._state_columns],
            [formulas, *dependencies, *([("wide codes", wide)] if wide else [])],
            limits=limits,
            value_limits=value_limits,
        )
        _check_declaration(view, self._state_columns)

    def fields(self, _event: EventType, /) -> tuple[str, ...]:
        """The event's times, and what the columns read."""
        read = [field for column in self._state_columns for field in column.reads]
        return tuple(dict.fromkeys(("event_time_us", *read, self._time_field)))

    def rows_of(
        self, _event: EventType, /, events: Columns, known_at_us: Int64Array
    ) -> PointInTimeRows:
        """One row for each event that has a time. Columns are computed when they are needed."""
        n = len(known_at_us)
        times = whole(events[self._time_field])
        rows = PointInTimeRows(
            group=np.arange(n),
            row_key=times,
            known_us=known_at_us,
            counts=np.broadcast_to(np.int64(1), n),
            columns=LazyColumns(events, {c.name: c.maker for c in self._state_columns}),
        )
        placed = np.flatnonzero(times != UNSET)
        return rows if len(placed) == n else rows.select(placed, placed)

    def merge_keys(self, rows: NDArray[np.void]) -> list[NDArray[Any]]:
        """The codes, and the marks of sums without a value: rows that differ in them stay apart."""
        codes = [rows[c.name] for c in self._state_columns if c.combine is None]
        marks = [np.minimum(rows[name], INVALID + 1) for name in self._sums]
        return [*codes, *(mark for mark in marks if (mark <= INVALID).any())]

    def runs(self, rows: NDArray[np.void], starts: Int64Array) -> Int64Array:
        """A run is cut where its sum would not fit into 64 bits."""
        return runs_that_fit([rows[name] for name in self._sums], starts)

    def merge_runs(self, rows: NDArray[np.void], starts: Int64Array) -> NDArray[np.void]:
        """Each column is combined as its kind says."""
        combine = {c.name: c.combine for c in self._state_columns if c.combine is not None}
        merged = reduce_runs(rows, starts, {"count": np.add, **combine})
        for name in self._sums:
            first = rows[name][starts]
            merged[name] = np.where(first <= INVALID, first, merged[name])
        return merged

    def reachable(self, rows: NDArray[np.void], compacted_through: Int64Array) -> BoolArray:
        """Rows that lie no further back than the view's reach."""
        reachable: BoolArray = rows["row_key"] >= compacted_through - self.view.reach_us
        return reachable


def _check_declaration(view: FeatureView | CalendarView, columns: tuple[StateColumn, ...]) -> None:
    field_kinds = kinds(view.source.record)
    for column in columns:
        if column.declared is not None:
            _check_column(view.name, column.declared, field_kinds, added=column.kind == "sum")
        elif column.kind != "code" and field_kinds[column.of] == "text":
            raise DeclarationError(f"view {view.name}: {column.of!r} is text, not a number")


def _check_column(
    view: str, column: Column, field_kinds: Mapping[str, Kind], *, added: bool
) -> None:
    no_events = as_formula_inputs({f: array_of((), field_kinds[f]) for f in column.reads})
    try:
        dtype = np.asarray(column.compute(no_events)).dtype
    except Exception as error:
        raise DeclarationError(
            f"view {view}: column {column.name!r} raised {type(error).__name__} for no events:"
            f" {error}"
        ) from error
    if added and column.scale is None and dtype.kind not in "iub":
        raise DeclarationError(
            f"view {view}: column {column.name!r} is not of whole numbers: sums of floats depend on"
            " the order of addition, so choose a unit that makes it whole, or give it a scale"
        )

"""Aggregations over spans of the calendar that a request names."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.definitions.events import Columns, EventType, Float64Array, Int64Array
from features.definitions.operations import SumOperation
from features.definitions.views import CalendarView, Span
from features.engine.aggregate_views import AggregateState
from features.engine.formulas import run_for_numbers
from features.engine.merge_tree import MergeTree
from features.engine.numbers import as_formula_inputs, whole
from features.engine.point_in_time import PointInTimeIndex
from features.engine.queries import PointInTimeQueries
from features.engine.rows import PointInTimeRows
from features.engine.sorting import UNSET
from features.engine.value_limits import DEFAULT_LIMITS, ValueLimits
from features.engine.window_aggregates import FilledTable, TableSums
from infra.clock import span_us


class CalendarState(AggregateState):
    """The state of a `CalendarView`."""

    view: CalendarView

    def __init__(self, view: CalendarView, *, value_limits: ValueLimits = DEFAULT_LIMITS) -> None:
        super().__init__(
            view,
            time_field=view.at,
            limits=(view.at, span_us(view.ahead)),
            value_limits=value_limits,
        )

    def rows_of(
        self, event: EventType, events: Columns, known_at_us: Int64Array
    ) -> PointInTimeRows:
        """One row an event, except events that happened more than `ahead` before their `at`."""
        rows = super().rows_of(event, events, known_at_us)
        latest = np.asarray(events["event_time_us"], np.int64) + span_us(self.view.ahead)
        near = np.flatnonzero(rows.row_key <= latest[rows.group])
        return rows if len(near) == len(rows) else rows.select(near, rows.group[near])

    def compute(self, rows: PointInTimeRows, queries: PointInTimeQueries) -> Float64Array:
        """Each aggregation over each span; NaN where a span begins beyond the view's reach."""
        index = PointInTimeIndex(rows, queries)
        table, tree = self._sum_table.of(rows), MergeTree(index)

        def totals(start: Int64Array, end: Int64Array) -> FilledTable:
            return table.holding(tree.sums_between(table.cells, start, end))

        sums, in_reach = [], []
        for span in self.view.spans:
            start, end = _edges(self.view.name, span, queries)
            sums.append(TableSums(partial(totals, start, end)))
            in_reach.append(start >= queries.as_of_us - self.view.reach_us)
        values = []
        for a in self.view.aggregations:
            operation = a.definition
            assert isinstance(operation, SumOperation)  # the view checks it
            for span_sums, reached in zip(sums, in_reach, strict=True):
                value = operation.compute(span_sums, a.column or "")
                values.append(np.where(reached, value, np.nan))
        return np.column_stack(values)


def _edges(view: str, span: Span, queries: PointInTimeQueries) -> tuple[Int64Array, Int64Array]:
    """Start and end of the span of each query; a span that ends before its start is empty.

    UNSET, which lies beyond every reach, where a formula gives no time.
    """
    inputs = as_formula_inputs({field: queries.fields[field] for field in span.reads})
    start, end = (
        _times(run_for_numbers(edge, inputs, len(queries), name=f"{view}.{span.name}").values)
        for edge in (span.start, span.end)
    )
    start = np.where(end == UNSET, UNSET, start)
    return start, np.maximum(start, end)


def _times(values: NDArray[Any]) -> Int64Array:
    """Whole microseconds: no event lies between a fraction and the next one."""
    return whole(np.ceil(values) if values.dtype.kind == "f" else values)

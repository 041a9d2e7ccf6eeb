"""Aggregations over spans of the calendar that a request names."""

from functools import partial
from typing import Any

import numpy as np

from features.definitions.events import (
    BoolArray,
    Columns,
    EventType,
    Float64Array,
    Int64Array,
)
from features.definitions.operations import SumOperation
from features.definitions.views import CalendarView, Span
from features.engine.aggregate_views import AggregateState
from features.engine.formulas import WHOLE, request_values_or_null
from features.engine.merge_tree import MergeTree
from features.engine.point_in_time import PointInTimeIndex
from features.engine.queries import PointInTimeQueries
from features.engine.rows import PointInTimeRows
from features.engine.state import COMPACTION_SLACK
from features.engine.window_aggregates import TableSums
from infra.clock import span_us


class CalendarState(AggregateState):
    """The state of a `CalendarView`."""

    view: CalendarView

    def __init__(self, view: CalendarView, *, compaction_slack: int = COMPACTION_SLACK) -> None:
        super().__init__(view, time_field=view.at, compaction_slack=compaction_slack)

    def rows_of(
        self, event: EventType, events: Columns, known_at_us: Int64Array
    ) -> PointInTimeRows:
        """One row an event, except events that happened more than `ahead` before their `at`."""
        rows = super().rows_of(event, events, known_at_us)
        ahead = rows.row_key - np.asarray(events["event_time_us"], np.int64)
        near = np.flatnonzero(ahead <= span_us(self.view.ahead))
        return rows if len(near) == len(rows) else rows.select(near, near)

    def compute(self, rows: PointInTimeRows, queries: PointInTimeQueries) -> Float64Array:
        """Each aggregation over each span; NaN where a span begins beyond the view's reach."""
        index = PointInTimeIndex(rows, queries)
        table, tree = self._sum_table.of(rows), MergeTree(index)
        sums, in_reach = [], []
        for span in self.view.spans:
            start, end, failed = _edges(self.view, span, queries)
            totals = partial(tree.sums_between, table, start, end)
            sums.append(TableSums(self._sum_table, totals))
            in_reach.append(~failed & (start >= queries.as_of_us - self.view.reach_us))
        values = []
        for a in self.view.aggregations:
            operation = a.definition
            assert isinstance(operation, SumOperation)  # the view checks it
            for span_sums, reached in zip(sums, in_reach, strict=True):
                value = operation.compute(span_sums, a.column or "")
                values.append(np.where(reached, value, np.nan))
        return np.column_stack(values)


def _edges(
    view: CalendarView, span: Span, queries: PointInTimeQueries
) -> tuple[Int64Array, Int64Array, BoolArray]:
    """Start and end of the span of each query, and for which it has none; a span that ends before
    its start is empty."""
    start, no_start = _edge(view, span, "start", queries)
    end, no_end = _edge(view, span, "end", queries)
    return start, np.maximum(start, end), no_start | no_end


def _edge(
    view: CalendarView, span: Span, edge: str, queries: PointInTimeQueries
) -> tuple[Int64Array, BoolArray]:
    def compute(part: slice) -> Any:
        return getattr(span, edge)({f: queries.fields[f][part] for f in span.reads})

    formula = f"view {view.name}: {edge} of span {span.name!r}"
    times, failed = request_values_or_null(formula, compute, len(queries), kinds=WHOLE)
    return times.astype(np.int64, copy=False), failed

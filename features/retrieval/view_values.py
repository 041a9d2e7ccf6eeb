"""The features of one view for past decisions, from the events of the offline store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from features.definitions import (
    EventType,
    Float64Array,
    Int64Array,
    OpenView,
    PreviousView,
    View,
)
from features.engine.deduplication import EARLY_US
from features.engine.queries import PointInTimeQueries
from features.engine.rows import PointInTimeRows
from features.engine.view_states import state_of
from features.retrieval.event_log import EventLog, Events, entity_codes, exact_arrays_in
from features.retrieval.field_sets import distinct, source_fields

if TYPE_CHECKING:
    import polars as pl


def view_values(
    view: View,
    event_log: Events,
    decisions: pl.DataFrame,
    as_of_us: Int64Array,
    *,
    decided_by: EventType | None = None,
) -> Float64Array:
    """The view's features for rows of `decisions` at `as_of_us`.

    `decisions` has the fields of `query_fields(view)`; `decided_by` is the event that they are of.
    Shape (rows, features), in the order of `view.features`.
    """
    if not len(as_of_us):
        return np.empty((0, len(view.features)))
    state = state_of(view)
    from_us, until_us = _reach(view, as_of_us)
    by_known = isinstance(view, OpenView | PreviousView)
    frames = [
        event_log.events(
            event,
            source_fields(view, event),
            from_us=None if by_known else from_us,
            until_us=until_us,
            known_from_us=from_us - EARLY_US if by_known else None,
        )
        for event in view.sources
    ]
    query_group, *event_groups = entity_codes(view.entity, [decisions, *frames])
    # The keys and offsets of all events take much memory: release them before the computation.
    frames = [
        frame.select(distinct(("known_at_us",), state.fields(event)))
        for event, frame in zip(view.sources, frames, strict=True)
    ]
    parts = [
        _rows(view, event, frame, group)
        for event, frame, group in zip(view.sources, frames, event_groups, strict=True)
    ]
    fields = exact_arrays_in(decided_by, decisions, view.request_fields) if decided_by else {}
    queries = PointInTimeQueries(group=query_group, as_of_us=as_of_us, fields=fields)
    return state.compute(parts[0] if len(parts) == 1 else _joined(parts), queries)


class SliceEvents:
    """The events of one slice, sorted by event time: each table is read once for all views."""

    def __init__(self, views: Sequence[View], event_log: EventLog, as_of_us: Int64Array) -> None:
        self._frames: dict[str, pl.DataFrame] = {}
        if not len(as_of_us):
            return
        until_us = int(as_of_us.max()) + EARLY_US
        for event in dict.fromkeys(e for v in views for e in v.sources):
            readers = [v for v in views if event in v.sources]
            from_us = min(_reach(v, as_of_us)[0] for v in readers)
            # An event is emitted hardly before it happens, so by known time there are more.
            by_known = any(isinstance(v, OpenView | PreviousView) for v in readers)
            self._frames[event.name] = event_log.events(
                event,
                distinct(*(source_fields(v, event) for v in readers)),
                from_us=None if by_known else from_us,
                until_us=until_us,
                known_from_us=from_us - EARLY_US if by_known else None,
            ).sort("event_time_us")

    def events(
        self,
        event: EventType,
        fields: Sequence[str],
        *,
        from_us: int | None = None,
        until_us: int | None = None,
        known_from_us: int | None = None,  # noqa: ARG002  # what is in memory was read by it
    ) -> pl.DataFrame:
        """A slice of the frame that is in memory already; nothing is copied."""
        frame = self._frames[event.name]
        times = frame["event_time_us"]
        first = 0 if from_us is None else int(times.search_sorted(from_us, "left"))
        last = len(times) if until_us is None else int(times.search_sorted(until_us, "left"))
        columns = distinct(("event_time_us", "known_at_us"), fields)
        return frame.select(columns).slice(first, last - first)


def _reach(view: View, as_of_us: Int64Array) -> tuple[int, int]:
    """The span of event times (start, end) that can count as of one of these times."""
    return int(as_of_us.min()) - view.lookback_us, int(as_of_us.max()) + EARLY_US


def _rows(view: View, event: EventType, frame: pl.DataFrame, group: Int64Array) -> PointInTimeRows:
    """A view's events as rows of the engine, without the events that have no entity."""
    state = state_of(view)
    known = frame["known_at_us"].to_numpy()
    rows = state.rows_of(event, exact_arrays_in(event, frame, state.fields(event)), known)
    group = group[rows.group]
    named = group >= 0
    if named.all():
        return replace(rows, group=group)
    return rows.select(np.flatnonzero(named), group[named])


def _joined(parts: Sequence[PointInTimeRows]) -> PointInTimeRows:
    """The rows of several kinds of events, which have the same columns."""
    return PointInTimeRows(
        group=np.concatenate([p.group for p in parts]),
        row_key=np.concatenate([p.row_key for p in parts]),
        known_us=np.concatenate([p.known_us for p in parts]),
        counts=np.concatenate([p.counts for p in parts]),
        columns={
            name: np.concatenate([p.columns[name] for p in parts]) for name in parts[0].columns
        },
    )

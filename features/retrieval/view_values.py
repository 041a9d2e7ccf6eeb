"""The features of one view for past decisions, from the events of the offline store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Unpack

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
from features.engine.rows import PointInTimeRows, joined
from features.engine.view_states import state_of
from features.retrieval.event_arrays import entity_codes, exact_arrays_in
from features.retrieval.event_log import EventLog, Events, EventSpan
from features.retrieval.field_sets import distinct, source_fields
from features.retrieval.stored_events import StoredEvents

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
    stored = [
        event_log.stored(
            event,
            source_fields(view, event),
            at_once=view.entity.keys,
            event_from_us=None if by_known else from_us,
            event_until_us=until_us,
            known_from_us=from_us - EARLY_US if by_known else None,
        )
        for event in view.sources
    ]
    query_group, *event_groups = entity_codes(view.entity, [decisions, *(s.frame for s in stored)])
    # The keys and offsets of all events take much memory: release them before the computation.
    stored = [events.select(state.fields(events.event)) for events in stored]
    parts = [_rows(view, events, group) for events, group in zip(stored, event_groups, strict=True)]
    fields = exact_arrays_in(decided_by, decisions, view.request_fields) if decided_by else {}
    queries = PointInTimeQueries(group=query_group, as_of_us=as_of_us, fields=fields)
    return state.compute(joined(parts), queries)


class SliceEvents:
    """The events of one slice, sorted by event time: each table is read once for all views, when
    the first of them asks for it, and released after the last."""

    def __init__(self, views: Sequence[View], event_log: EventLog, as_of_us: Int64Array) -> None:
        self._views, self._event_log, self._as_of_us = views, event_log, as_of_us
        self._stored: dict[str, StoredEvents] = {}
        self._views_of = Counter(event.name for view in views for event in view.sources)
        self._to_come = self._views_of.copy()

    def stored(
        self,
        event: EventType,
        fields: Sequence[str],
        *,
        at_once: Sequence[str],
        **span: Unpack[EventSpan],
    ) -> StoredEvents:
        """A slice of the events that were read; nothing is copied."""
        if self._views_of[event.name] == 1:  # it reads exactly these
            return self._event_log.stored(event, fields, at_once=at_once, **span)
        stored = self._stored.pop(event.name, None) or self._read(event)
        self._to_come[event.name] -= 1
        if self._to_come[event.name]:
            self._stored[event.name] = stored
        times = stored.frame["event_time_us"]
        from_us, until_us = span.get("event_from_us"), span.get("event_until_us")
        first = 0 if from_us is None else int(times.search_sorted(from_us, "left"))
        last = len(times) if until_us is None else int(times.search_sorted(until_us, "left"))
        columns = distinct(("event_time_us", "known_at_us"), fields)
        return stored.rearranged(lambda frame: frame.slice(first, last - first)).select(columns)

    def _read(self, event: EventType) -> StoredEvents:
        readers = [v for v in self._views if event in v.sources]
        # An event is emitted hardly before it happens, so by known time there are more.
        by_known = any(isinstance(v, OpenView | PreviousView) for v in readers)
        from_us = min(_reach(v, self._as_of_us)[0] for v in readers)
        stored = self._event_log.stored(
            event,
            distinct(*(source_fields(v, event) for v in readers)),
            at_once=distinct(*(v.entity.keys for v in readers)),
            event_from_us=None if by_known else from_us,
            event_until_us=int(self._as_of_us.max()) + EARLY_US,
            known_from_us=from_us - EARLY_US if by_known else None,
        )
        order = stored.frame["event_time_us"].arg_sort()
        return stored.rearranged(lambda frame: frame[order])


def _reach(view: View, as_of_us: Int64Array) -> tuple[int, int]:
    """The span of event times (start, end) that can count as of one of these times."""
    return int(as_of_us.min()) - view.lookback_us, int(as_of_us.max()) + EARLY_US


def _rows(view: View, events: StoredEvents, group: Int64Array) -> PointInTimeRows:
    """A view's events as rows of the engine, without the events that have no entity."""
    known = events.frame["known_at_us"].to_numpy()
    rows = state_of(view).rows_of(events.event, events.arrays(), known)
    group = group[rows.group]
    named = group >= 0
    if named.all():
        return replace(rows, group=group)
    return rows.select(np.flatnonzero(named), group[named])

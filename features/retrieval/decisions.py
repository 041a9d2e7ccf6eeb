"""The decisions of a service: when each was made, cut into slices of time that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from features.definitions import FeatureService, Int64Array
from features.engine.numbers import whole
from features.retrieval.event_log import EARLY_US, EventLog, arrays_in
from features.retrieval.field_sets import decision_fields, decision_time_fields, distinct

if TYPE_CHECKING:
    import polars as pl


@dataclass(kw_only=True)
class Decisions:
    """Decisions of a service, one row each, sorted by time and entity id."""

    frame: pl.DataFrame  # fields of the decision's source that the service reads
    entity_id: pl.Series
    as_of_us: Int64Array


@dataclass(frozen=True, kw_only=True)
class TimeSlice:
    """Decisions with `start_us <= time < end_us`, which come from events that happened in
    `happened_from_us <= event time < happened_until_us`."""

    start_us: int
    end_us: int
    happened_from_us: int
    happened_until_us: int


def time_slices(
    service: FeatureService,
    event_log: EventLog,
    span: tuple[int, int],
    known_before_us: int,
    slice_us: int,
) -> list[TimeSlice]:
    """The slices that hold a decision, in order; one empty slice when there is none.

    How long before a decision its event happens is not declared. So the event times and the fields
    that are numbers are read first, block by block.
    """
    source, time_fields = service.decision.source, decision_time_fields(service)
    start_us, end_us = span
    spans: dict[int, tuple[int, int]] = {}
    for first, last in event_log.blocks(source, until_us=known_before_us + EARLY_US):
        frame = event_log.store.read(
            source,
            columns=distinct(("event_time_us",), time_fields),
            event_from_us=first,
            event_until_us=last,
            version=(event_log.versions or {}).get(source.name),
        )
        at = whole(np.asarray(service.decision.at(arrays_in(source, frame, time_fields))))
        inside = (at >= start_us) & (at < end_us)
        number, happened = (at[inside] - start_us) // slice_us, frame["event_time_us"].to_numpy()
        for n, low, high in _extremes(number, happened[inside]):
            a, b = spans.get(n, (low, high))
            spans[n] = (min(a, low), max(b, high))
    return [
        TimeSlice(
            start_us=start_us + n * slice_us,
            end_us=min(start_us + (n + 1) * slice_us, end_us),
            happened_from_us=low,
            happened_until_us=high + 1,
        )
        for n, (low, high) in sorted(spans.items())
    ] or [TimeSlice(start_us=start_us, end_us=start_us, happened_from_us=0, happened_until_us=0)]


def decisions_of(
    service: FeatureService, event_log: EventLog, time_slice: TimeSlice, known_before_us: int
) -> Decisions:
    """The decisions of a slice that were known before the cut-off, each one once."""
    import polars as pl

    decision = service.decision
    fields = decision_fields(service)
    frame = event_log.events(
        decision.source,
        fields,
        from_us=time_slice.happened_from_us,
        # The last event of a slice may be a duplicate whose first sighting has a later event time.
        until_us=time_slice.happened_until_us + event_log.horizon_us,
    )
    frame = frame.filter(
        pl.col("known_at_us") < known_before_us, pl.col(decision.entity_id).is_not_null()
    )
    at = decision.at(arrays_in(decision.source, frame, fields))
    frame = frame.with_columns(pl.Series("_at", whole(np.asarray(at)), dtype=pl.Int64))
    frame = frame.filter(
        (pl.col("_at") >= time_slice.start_us) & (pl.col("_at") < time_slice.end_us)
    )
    frame = frame.sort("_at", decision.entity_id, "partition", "offset")
    # Several events may lead to one decision, such as all of a day to the one at its end.
    frame = frame.unique(["_at", decision.entity_id], keep="first", maintain_order=True)
    return Decisions(
        frame=frame, entity_id=frame[decision.entity_id], as_of_us=frame["_at"].to_numpy()
    )


def _extremes(group: Int64Array, values: Int64Array) -> Iterator[tuple[int, int, int]]:
    """(group, its smallest value, its largest value) for each group."""
    if not len(group):
        return
    order = np.argsort(group, kind="stable")
    group, values = group[order], values[order]
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    yield from zip(group[starts].tolist(), low.tolist(), high.tolist(), strict=True)

"""The decisions of a service: when each was made, cut into slices of time that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from features.definitions import Decision, FeatureService, Int64Array
from features.engine.decision_times import decision_times
from features.engine.deduplication import EARLY_US
from features.retrieval.event_arrays import arrays_in
from features.retrieval.event_log import EventLog
from features.retrieval.field_sets import decision_fields, distinct, time_fields
from infra.clock import span_us

if TYPE_CHECKING:
    import polars as pl


AT = "_at"  # the decision time of an event
PLACE = ("partition", "offset")


@dataclass(kw_only=True)
class Decisions:
    """Decisions of a service, one row each, sorted by time and entity id."""

    frame: pl.DataFrame  # fields of the decision's source that the service reads
    entity_id: pl.Series
    as_of_us: Int64Array
    known_late: int  # further events, which were known too late for their decision


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
    source, numbers = service.decision.source, time_fields(service.decision)
    start_us, end_us = span
    spans: dict[int, tuple[int, int]] = {}
    for first, last in event_log.blocks(source, until_us=known_before_us + EARLY_US):
        frame = event_log.store.read(
            source,
            columns=distinct(("event_time_us",), numbers),
            event_from_us=first,
            event_until_us=last,
            version=(event_log.versions or {}).get(source.name),
        )
        at = decision_times(service.decision, arrays_in(source, frame, numbers), frame.height)
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
    service: FeatureService, event_log: EventLog, time_slice: TimeSlice, replaced: pl.DataFrame
) -> Decisions:
    """The decisions of a slice that could be made, each one once, without those of `replaced`."""
    import polars as pl

    decision = service.decision
    fields = decision_fields(service)
    frame = event_log.events(
        decision.source,
        fields,
        event_from_us=time_slice.happened_from_us,
        # The last event of a slice may be a duplicate whose first sighting has a later event time.
        event_until_us=time_slice.happened_until_us + event_log.horizon_us,
    )
    frame = frame.filter(pl.col(decision.entity_id).is_not_null())
    if not replaced.is_empty():
        frame = frame.join(replaced, on=list(PLACE), how="anti")
    frame = _with_decision_time(decision, frame, fields)
    frame = frame.filter((pl.col(AT) >= time_slice.start_us) & (pl.col(AT) < time_slice.end_us))
    events = frame.height
    frame = _in_time(decision, frame)
    known_late = events - frame.height
    frame = frame.sort(AT, decision.entity_id, *PLACE)
    # Several events may lead to one decision, such as all of a day to the one at its end.
    frame = frame.unique([AT, decision.entity_id], keep="first", maintain_order=True)
    return Decisions(
        frame=frame,
        entity_id=frame[decision.entity_id],
        as_of_us=frame[AT].to_numpy(),
        known_late=known_late,
    )


def replaced_events(decision: Decision, event_log: EventLog, known_before_us: int) -> pl.DataFrame:
    """Partition and offset of the events that `of_several` keeps from making a decision."""
    import polars as pl

    nothing = pl.DataFrame(schema=dict.fromkeys(PLACE, pl.Int64))
    if decision.of_several == "each":
        return nothing
    blocks = event_log.blocks(decision.source, until_us=known_before_us + EARLY_US)
    repeated = _repeated_entities(decision, event_log, blocks)
    if not len(repeated):
        return nothing
    fields = distinct((decision.entity_id,), time_fields(decision))
    several = [
        _about(repeated, decision, _block(event_log, decision, fields, block)) for block in blocks
    ]
    return _replaced(decision, pl.concat(several), fields).select(
        pl.col(name).cast(pl.Int64) for name in PLACE
    )


def _repeated_entities(
    decision: Decision, event_log: EventLog, blocks: Sequence[tuple[int, int]]
) -> pl.Series:
    """Hashes of the entities that have several events; duplicates of one event count too."""
    import polars as pl

    hashes = [
        event_log.store.read(
            decision.source,
            columns=[decision.entity_id],
            event_from_us=first,
            event_until_us=last,
            version=(event_log.versions or {}).get(decision.source.name),
        )[decision.entity_id].hash()
        for first, last in blocks
    ]
    every = pl.concat([pl.Series(dtype=pl.UInt64), *hashes])
    return every.filter(every.is_duplicated()).unique()


def _block(
    event_log: EventLog, decision: Decision, fields: Sequence[str], block: tuple[int, int]
) -> pl.DataFrame:
    import polars as pl

    first, last = block
    until_us = last + event_log.horizon_us  # for first sightings with a later event time
    frame = event_log.events(decision.source, fields, event_from_us=first, event_until_us=until_us)
    return frame.filter(pl.col("event_time_us") < last)


def _about(repeated: pl.Series, decision: Decision, frame: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    several = frame[decision.entity_id].hash().is_in(repeated.implode())
    return frame.filter(several, pl.col(decision.entity_id).is_not_null())


def _replaced(decision: Decision, frame: pl.DataFrame, fields: Sequence[str]) -> pl.DataFrame:
    """Of events about entities with several, those that make no decision (`of_several="current"`).

    All but one of each entity: the earliest decision of those that nothing replaced in time.
    """
    import polars as pl

    in_time = _in_time(decision, _with_decision_time(decision, frame, fields))
    order = frame.sort("known_at_us", *PLACE)
    next_known = pl.col("known_at_us").shift(-1).over(decision.entity_id).alias("_next")
    order = order.with_columns(next_known).select(*PLACE, "_next")
    stands = in_time.join(order, on=list(PLACE)).filter(
        pl.col("_next").is_null() | (pl.col("_next") > pl.col(AT))
    )
    made = stands.sort(AT, "known_at_us", *PLACE).unique(
        decision.entity_id, keep="first", maintain_order=True
    )
    return frame.join(made, on=list(PLACE), how="anti")


def _with_decision_time(
    decision: Decision, frame: pl.DataFrame, fields: Sequence[str]
) -> pl.DataFrame:
    import polars as pl

    at = decision_times(decision, arrays_in(decision.source, frame, fields), frame.height)
    return frame.with_columns(pl.Series(AT, at, dtype=pl.Int64))


def _in_time(decision: Decision, frame: pl.DataFrame) -> pl.DataFrame:
    """The events that were known when they were decided about; `frame` has that time in `AT`."""
    import polars as pl

    latest = pl.col(AT) + span_us(decision.reported_within)
    return frame.filter(pl.col("known_at_us") <= latest)


def _extremes(group: Int64Array, values: Int64Array) -> Iterator[tuple[int, int, int]]:
    """(group, its smallest value, its largest value) for each group."""
    if not len(group):
        return
    order = np.argsort(group, kind="stable")
    group, values = group[order], values[order]
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    yield from zip(group[starts].tolist(), low.tolist(), high.tolist(), strict=True)

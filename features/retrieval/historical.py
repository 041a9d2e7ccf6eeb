"""Features as they were: the values of a service for past decisions, from the offline store.

The same numbers as `features.retrieval.online` gave, or would have given, at the time: each value
uses the events with `known_at < t` and `event_time >= t - W`, without duplicates
(`features.engine.deduplication`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from features.definitions import EventType, FeatureService, Float64Array, Int64Array, Label, View
from features.engine.columns import kinds
from features.engine.queries import PointInTimeQueries
from features.engine.request_columns import request_values
from features.engine.rows import PointInTimeRows
from features.engine.view_states import state_of
from features.errors import FeatureError
from features.retrieval.content_hash import ContentDigest
from features.retrieval.event_log import (
    DUPLICATE_HORIZON_US,
    EARLY_US,
    EventLog,
    Events,
    arrays_in,
    entity_codes,
)
from features.retrieval.labels import Decisions, labels_of
from features.stores.ports import OfflineStore
from infra.clock import DAY, HOUR, from_us

if TYPE_CHECKING:
    import polars as pl

READY_TOLERANCE_US = 6 * HOUR  # nights without a flight are shorter
SLICE_US = 30 * DAY  # a third of the memory of a year at once, for a seventh more CPU


@dataclass(frozen=True, kw_only=True)
class TrainingRows:
    """One row a decision, by decision time and entity id.

    `frame`: entity_id, decision_time_us, each category (str) and number (float64, NaN for
    nothing) of the service by name, label (Int8: 0, 1 or null), label_known_at_us (null with it).
    `manifest`: what it was made from, and the sha256 of the frame's content.
    """

    frame: pl.DataFrame
    manifest: dict[str, Any]


def training_rows(
    service: FeatureService,
    label: Label,
    store: OfflineStore,
    *,
    start_us: int,
    end_us: int,
    known_before_us: int,
    versions: Mapping[str, int] | None = None,
    duplicate_horizon_us: int = DUPLICATE_HORIZON_US,
    ready_tolerance_us: int = READY_TOLERANCE_US,
    slice_us: int = SLICE_US,
) -> TrainingRows:
    """Decisions with `start_us <= decision time < end_us`, known before the cut-off, with features.

    A label that was not known before `known_before_us` is null. The same call gives the same rows
    and the same sha256 although more events have arrived since. `versions` (event name -> version
    of its table) reads pinned versions instead of the newest. `slice_us`: see `training_slices`.

    Raises:
        CheckFailed: an event that would be used breaks a check whose remedy is to stop.
        DataNotReady: the store's newest event was emitted more than `ready_tolerance_us` before
            the cut-off.
        FeatureError: the decisions would end after the cut-off.
        StoreUnavailable: the store does not answer.
    """
    import polars as pl

    event_log = EventLog(store, versions=versions, horizon_us=duplicate_horizon_us)
    event_log.require(sources(service, label), until_us=known_before_us - ready_tolerance_us)
    slices = training_slices(
        service,
        label,
        event_log,
        start_us=start_us,
        end_us=end_us,
        known_before_us=known_before_us,
        slice_us=slice_us,
    )
    digest, frames = ContentDigest(), []
    for piece in slices:
        digest.add(piece)
        frames.append(piece)
    frame = pl.concat(frames)
    return TrainingRows(
        frame=frame,
        manifest={
            "service": service.name,
            "label": label.name,
            "start_us": start_us,
            "end_us": end_us,
            "known_before_us": known_before_us,
            "rows": frame.height,
            "labelled": frame.height - frame["label"].null_count(),
            "tables": event_log.used,
            "sha256": digest.hexdigest(),
        },
    )


def training_slices(
    service: FeatureService,
    label: Label,
    event_log: EventLog,
    *,
    start_us: int,
    end_us: int,
    known_before_us: int,
    slice_us: int = SLICE_US,
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[pl.DataFrame]:
    """The frame of `training_rows` in pieces, by the time of the decisions; one piece at least.

    Each piece holds the decisions of at most `slice_us`, and is made of the events that they can
    reach back to: of those before the slice, as much is read again as `view.lookback_us` says.
    Memory goes with the slice, not with the span; the rows are the same for every `slice_us`.
    Before each piece `on_progress` is given how many are done, and of how many.

    Raises: see `training_rows`.
    """
    if end_us > known_before_us:
        raise FeatureError(
            f"decisions until {from_us(end_us)} cannot be known by {from_us(known_before_us)}"
        )
    slices = _slices(service, event_log, (start_us, end_us), known_before_us, slice_us)
    for done, part in enumerate(slices):
        if on_progress:
            on_progress(done, len(slices))
        decisions = _decisions(service, event_log, part, known_before_us)
        yield _frame(service, event_log, decisions).hstack(
            labels_of(label, event_log, decisions, known_before_us=known_before_us)
        )


def sources(service: FeatureService, label: Label) -> list[EventType]:
    """Every event that a training set is made of."""
    of_views = [event for view in service.views for event in view.sources]
    found = {e.name: e for e in (*of_views, service.decision.source, label.source)}
    return list(found.values())


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A stretch of decisions, and of the events that lead to them: every end is exclusive."""

    start_us: int
    end_us: int
    happened_from_us: int
    happened_until_us: int


def view_values(
    view: View,
    event_log: Events,
    decisions: pl.DataFrame,
    as_of_us: Int64Array,
    *,
    decided_by: EventType | None = None,
) -> Float64Array:
    """The view's features for rows of `decisions` at `as_of_us`.

    `decisions` has the entity's keys and the fields that the view asks for, which are those of the
    event `decided_by`. Shape (rows, features), in the order of `view.features`.
    """
    if not len(as_of_us):
        return np.empty((0, len(view.features)))
    state = state_of(view)
    from_us, until_us = _reach(view, as_of_us)
    frames = [
        event_log.events(event, _fields(view, event), from_us=from_us, until_us=until_us)
        for event in view.sources
    ]
    asked, *on_progress = entity_codes(view.entity, [decisions, *frames])
    # Keys and places are texts and numbers of every event: they are let go before the work begins.
    frames = [
        frame.select(*dict.fromkeys(("known_at_us", *state.fields(event))))
        for event, frame in zip(view.sources, frames, strict=True)
    ]
    parts = [
        _rows(view, event, frame, group)
        for event, frame, group in zip(view.sources, frames, on_progress, strict=True)
    ]
    fields = arrays_in(decided_by, decisions, view.request_fields) if decided_by else {}
    questions = PointInTimeQueries(group=asked, as_of_us=as_of_us, fields=fields)
    return state.compute(parts[0] if len(parts) == 1 else _joined(parts), questions)


def _slices(
    service: FeatureService,
    event_log: EventLog,
    span: tuple[int, int],
    known_before_us: int,
    slice_us: int,
) -> list[Slice]:
    """The slices that hold a decision, in order; an empty one when there is none.

    How long before a decision its event happens is not declared, so it is looked up: only times and
    numbers are read, block by block.
    """
    source, found = service.decision.source, _decision_numbers(service)
    start_us, end_us = span
    spans: dict[int, tuple[int, int]] = {}
    for first, last in event_log.blocks(source, until_us=known_before_us + EARLY_US):
        frame = event_log.store.read(
            source,
            columns=tuple(dict.fromkeys(("event_time_us", *found))),
            event_from_us=first,
            event_until_us=last,
            version=(event_log.versions or {}).get(source.name),
        )
        at = service.decision.at(arrays_in(source, frame, found))
        asked = (at >= start_us) & (at < end_us)
        number, happened = (at[asked] - start_us) // slice_us, frame["event_time_us"].to_numpy()
        for n, low, high in _extremes(number, happened[asked]):
            a, b = spans.get(n, (low, high))
            spans[n] = (min(a, low), max(b, high))
    return [
        Slice(
            start_us=start_us + n * slice_us,
            end_us=min(start_us + (n + 1) * slice_us, end_us),
            happened_from_us=low,
            happened_until_us=high + 1,
        )
        for n, (low, high) in sorted(spans.items())
    ] or [Slice(start_us=start_us, end_us=start_us, happened_from_us=0, happened_until_us=0)]


def _extremes(group: Int64Array, values: Int64Array) -> Iterator[tuple[int, int, int]]:
    """(group, its smallest value, its largest value) for each group."""
    if not len(group):
        return
    order = np.argsort(group, kind="stable")
    group, values = group[order], values[order]
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    yield from zip(group[starts].tolist(), low.tolist(), high.tolist(), strict=True)


def _decisions(
    service: FeatureService, event_log: EventLog, part: Slice, known_before_us: int
) -> Decisions:
    import polars as pl

    decision = service.decision
    fields = _decision_fields(service)
    frame = event_log.events(
        decision.source,
        fields,
        from_us=part.happened_from_us,
        # What the slice ends with may be a second sighting: the first one may have a later time.
        until_us=part.happened_until_us + event_log.horizon_us,
    )
    frame = frame.filter(pl.col("known_at_us") < known_before_us)
    at = decision.at(arrays_in(decision.source, frame, fields))
    frame = frame.with_columns(pl.Series("_at", at, dtype=pl.Int64))
    frame = frame.filter((pl.col("_at") >= part.start_us) & (pl.col("_at") < part.end_us))
    frame = frame.sort("_at", decision.entity_id, "partition", "offset")
    # Several events may lead to one decision, such as all of a day to the one at its end.
    frame = frame.unique(["_at", decision.entity_id], keep="first", maintain_order=True)
    return Decisions(
        frame=frame, entity_id=frame[decision.entity_id], as_of_us=frame["_at"].to_numpy()
    )


def _decision_fields(service: FeatureService) -> tuple[str, ...]:
    decision = service.decision
    asked = [f for v in service.views for f in (*v.entity.keys, *v.request_fields)]
    reads = [f for c in service.request_columns for f in c.reads]
    numbers = _decision_numbers(service)
    return tuple(dict.fromkeys((decision.entity_id, *asked, *reads, *numbers)))


def _decision_numbers(service: FeatureService) -> tuple[str, ...]:
    # `at` does not say what it reads: give it all numbers.
    fields = kinds(service.decision.source.record)
    return tuple(f for f, kind in fields.items() if kind != "text")


def _frame(service: FeatureService, event_log: EventLog, decisions: Decisions) -> pl.DataFrame:
    import polars as pl

    reads = tuple(dict.fromkeys(f for c in service.request_columns for f in c.reads))
    source = service.decision.source
    own = request_values(
        service, arrays_in(source, decisions.frame, reads), len(decisions.as_of_us)
    )
    held = _Held(service.views, event_log, decisions.as_of_us)
    tables = [
        view_values(view, held, decisions.frame, decisions.as_of_us, decided_by=source)
        for view in service.views
    ]
    numbers = np.hstack([own.numbers, *tables])
    return pl.DataFrame(
        {
            "entity_id": decisions.entity_id,
            "decision_time_us": pl.Series(decisions.as_of_us, dtype=pl.Int64),
            **{name: pl.Series(v, dtype=pl.String) for name, v in own.categories.items()},
            **{name: numbers[:, i] for i, name in enumerate(service.numbers)},
        }
    )


def _reach(view: View, as_of_us: Int64Array) -> tuple[int, int]:
    """From when until when events happen that count for one of these questions."""
    return int(as_of_us.min()) - view.lookback_us, int(as_of_us.max()) + EARLY_US


def _fields(view: View, event: EventType) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*view.entity.keys, *state_of(view).fields(event))))


class _Held:
    """Events of one slice: each table is read once for all views, and held by event time."""

    def __init__(self, views: Sequence[View], event_log: EventLog, as_of_us: Int64Array) -> None:
        self._frames: dict[str, pl.DataFrame] = {}
        if not len(as_of_us):
            return
        until_us = int(as_of_us.max()) + EARLY_US
        for event in dict.fromkeys(e for v in views for e in v.sources):
            of = [v for v in views if event in v.sources]
            self._frames[event.name] = event_log.events(
                event,
                tuple(dict.fromkeys(f for v in of for f in _fields(v, event))),
                from_us=min(_reach(v, as_of_us)[0] for v in of),
                until_us=until_us,
            ).sort("event_time_us")

    def events(
        self,
        event: EventType,
        fields: Sequence[str],
        *,
        from_us: int | None = None,
        until_us: int | None = None,
    ) -> pl.DataFrame:
        """See `Past.events`. Nothing is copied."""
        frame = self._frames[event.name]
        times = frame["event_time_us"]
        first = 0 if from_us is None else int(times.search_sorted(from_us, "left"))
        last = len(times) if until_us is None else int(times.search_sorted(until_us, "left"))
        columns = dict.fromkeys(("event_time_us", "known_at_us", *fields))
        return frame.select(*columns).slice(first, last - first)


def _rows(view: View, event: EventType, frame: pl.DataFrame, group: Int64Array) -> PointInTimeRows:
    """A view's events as the kernel's rows; events about no entity are left out."""
    state = state_of(view)
    known = frame["known_at_us"].to_numpy()
    kept = state.rows_of(event, arrays_in(event, frame, state.fields(event)), known)
    group = group[kept.group]
    named = group >= 0
    if named.all():
        return replace(kept, group=group)
    return kept.select(np.flatnonzero(named), group[named])


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

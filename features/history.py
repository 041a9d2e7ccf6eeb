"""Features as they were: the values of a service for past decisions, from the offline store.

The same numbers as `features.online` gave, or would have given, at the time: each value uses the
events with `known_at < t` and `event_time >= t - W`, duplicates dropped by `features.duplicates`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from features.checks import broken
from features.columns import KEY_SEPARATOR, dtype_of, kinds
from features.content import ContentDigest
from features.duplicates import first_sightings
from features.errors import CheckFailed, DataNotReady, FeatureError
from features.horizons import happened_within
from features.kernel import Questions, Rows
from features.ports import OfflineStore
from features.requests import request_values
from features.shapes import state_of
from features.vocabulary import (
    BoolArray,
    Check,
    Columns,
    Entity,
    EventType,
    FeatureService,
    Float64Array,
    Int64Array,
    Label,
    View,
)
from infra.clock import DAY, HOUR, from_us, span_us

if TYPE_CHECKING:
    import polars as pl

DUPLICATE_HORIZON_US = 48 * HOUR
READY_TOLERANCE_US = 6 * HOUR  # nights without a flight are shorter
EARLY_US = DAY  # more than an event may happen after it was emitted
SLICE_US = 30 * DAY  # a third of the memory of a year at once, for a seventh more CPU
ROWS_AT_ONCE = 500_000  # of a few columns, where a table is gone through from end to end
_PLACE = ("event_id", "event_time_us", "known_at_us", "partition", "offset")


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

    past = Past(store, versions=versions, horizon_us=duplicate_horizon_us)
    past.require(sources(service, label), until_us=known_before_us - ready_tolerance_us)
    slices = training_slices(
        service,
        label,
        past,
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
            "tables": past.used,
            "sha256": digest.hexdigest(),
        },
    )


def training_slices(
    service: FeatureService,
    label: Label,
    past: Past,
    *,
    start_us: int,
    end_us: int,
    known_before_us: int,
    slice_us: int = SLICE_US,
    told: Callable[[int, int], None] | None = None,
) -> Iterator[pl.DataFrame]:
    """The frame of `training_rows` in pieces, by the time of the decisions; one piece at least.

    Each piece holds the decisions of at most `slice_us`, and is made of the events that they can
    reach back to: of those before the slice, as much is read again as `view.back_us` says. Memory
    goes with the slice, not with the span; the rows are the same for every `slice_us`. `told` hears
    before each piece how many are done, and of how many.

    Raises: see `training_rows`.
    """
    if end_us > known_before_us:
        raise FeatureError(
            f"decisions until {from_us(end_us)} cannot be known by {from_us(known_before_us)}"
        )
    slices = _slices(service, past, (start_us, end_us), known_before_us, slice_us)
    for done, part in enumerate(slices):
        if told:
            told(done, len(slices))
        decisions = _decisions(service, past, part, known_before_us)
        yield _frame(service, past, decisions).hstack(
            _labels(label, past, decisions, known_before_us=known_before_us)
        )


def sources(service: FeatureService, label: Label) -> list[EventType]:
    """Every event that a training set is made of."""
    of_views = [event for view in service.views for event in view.sources]
    found = {e.name: e for e in (*of_views, service.decision.source, label.source)}
    return list(found.values())


@dataclass(kw_only=True)
class Decisions:
    """What is decided when: one row each, sorted by time and entity id."""

    frame: pl.DataFrame  # fields of the decision's source that the service reads
    entity_id: pl.Series
    as_of_us: Int64Array


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A stretch of decisions, and of the events that lead to them: every end is exclusive."""

    start_us: int
    end_us: int
    happened_from_us: int
    happened_until_us: int


class Events(Protocol):
    """What views are computed from."""

    def events(
        self,
        event: EventType,
        fields: Sequence[str],
        *,
        from_us: int | None = None,
        until_us: int | None = None,
    ) -> pl.DataFrame:
        """See `Past.events`."""
        ...


@dataclass
class Past:
    """Events of the offline store at pinned versions, each one once. Notes what it gave out."""

    store: OfflineStore
    versions: Mapping[str, int] | None = None
    horizon_us: int = DUPLICATE_HORIZON_US
    used: dict[str, Any] = field(default_factory=dict)

    def require(self, events: Sequence[EventType], *, until_us: int) -> None:
        """Raises DataNotReady unless the newest of these events was emitted at `until_us` or
        later; pins the versions that `events` reads from now on."""
        found = {e.name: self.store.version(e) for e in events}
        self.versions = {
            **{n: v for n, v in found.items() if v is not None},
            **(self.versions or {}),
        }
        newest = [
            self.store.newest_known_at_us(e, version=self.versions.get(e.name))
            for e in events
            if e.name in self.versions
        ]
        times = [t for t in newest if t is not None]
        if not times or max(times) < until_us:
            stands = f"ends at {from_us(max(times))}" if times else "is empty"
            raise DataNotReady(
                f"the offline store {stands}, events until {from_us(until_us)} are needed",
                hint="does ingest run and keep up? `eventide status`, `eventide audit`; if all is"
                " in that was sent, ask as of an earlier moment",
            )

    def events(
        self,
        event: EventType,
        fields: Sequence[str],
        *,
        from_us: int | None = None,
        until_us: int | None = None,
    ) -> pl.DataFrame:
        """Events by event time, without duplicates, with the columns in `_PLACE`.

        A duplicate may have another event time than the first sighting: the rows of one horizon
        before the span are read too.
        """
        earlier = None if from_us is None else from_us - self.horizon_us
        version = (self.versions or {}).get(event.name)
        stops = event.checks_that("stop")
        columns = tuple(dict.fromkeys((*_PLACE, *fields, *(f for c in stops for f in c.reads))))
        frame = self.store.read(
            event, columns=columns, event_from_us=earlier, event_until_us=until_us, version=version
        )
        counts = self._counts(frame)
        if from_us is not None:
            counts &= frame["event_time_us"].to_numpy() >= from_us
        if not counts.all():
            frame = frame.filter(counts)
        for check in stops:
            _stop_unless(check, event, frame)
        self._note(event, version, frame)
        return frame

    def blocks(
        self, event: EventType, *, from_us: int | None = None, until_us: int
    ) -> list[tuple[int, int]]:
        """Stretches of event time that hold about `ROWS_AT_ONCE` events each, for going through a
        table without having all of it in memory: from the first event to the last."""
        times = self.store.read(
            event,
            columns=("event_time_us",),
            event_from_us=from_us,
            event_until_us=until_us,
            version=(self.versions or {}).get(event.name),
        )["event_time_us"].sort()
        if times.is_empty():
            return []
        edges = [*times.gather_every(ROWS_AT_ONCE).unique().sort(), int(times[-1]) + 1]
        return list(pairwise(edges))

    def _counts(self, frame: pl.DataFrame) -> BoolArray:
        """Which rows are no duplicates. Most histories have none, which their hashes tell at a
        fraction of the cost: equal ids have equal hashes."""
        import polars as pl

        counts = np.ones(frame.height, bool)
        hashes = frame["event_id"].hash()
        ordered = np.sort(hashes.to_numpy())
        repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        if not len(repeated):
            return counts
        suspects = np.flatnonzero(hashes.is_in(pl.Series(repeated)).to_numpy())
        found = frame[suspects]
        counts[suspects] = first_sightings(
            ids=_codes(found["event_id"]),
            partitions=found["partition"].to_numpy(),
            offsets=found["offset"].to_numpy(),
            known_at_us=found["known_at_us"].to_numpy(),
            horizon_us=self.horizon_us,
        )
        return counts

    def _note(self, event: EventType, version: int | None, frame: pl.DataFrame) -> None:
        import polars as pl

        spans = frame.group_by("partition").agg(
            pl.col("offset").min().alias("first"), pl.col("offset").max().alias("last")
        )
        entry = self.used.setdefault(
            event.name, {"delta_version": version, "rows_read": 0, "offsets": {}}
        )
        entry["rows_read"] = max(entry["rows_read"], frame.height)  # several views read one table
        for partition, first, last in sorted(spans.iter_rows()):
            key = f"{event.name}-{partition}"
            a, b = entry["offsets"].get(key, (first, last))
            entry["offsets"][key] = [min(a, first), max(b, last)]


def view_values(
    view: View,
    past: Events,
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
        past.events(event, _fields(view, event), from_us=from_us, until_us=until_us)
        for event in view.sources
    ]
    asked, *told = _entity_codes(view.entity, [decisions, *frames])
    parts = [
        _rows(view, event, frame, group)
        for event, frame, group in zip(view.sources, frames, told, strict=True)
    ]
    fields = _arrays(decided_by, decisions, view.asks) if decided_by else {}
    questions = Questions(group=asked, as_of_us=as_of_us, fields=fields)
    return state.answers(parts[0] if len(parts) == 1 else _joined(parts), questions)


def _slices(
    service: FeatureService, past: Past, span: tuple[int, int], known_before_us: int, slice_us: int
) -> list[Slice]:
    """The slices that hold a decision, in order; an empty one when there is none.

    How long before a decision its event happens is not declared, so it is looked up: only times and
    numbers are read, block by block.
    """
    source, found = service.decision.source, _decision_numbers(service)
    start_us, end_us = span
    spans: dict[int, tuple[int, int]] = {}
    for first, last in past.blocks(source, until_us=known_before_us + EARLY_US):
        frame = past.store.read(
            source,
            columns=tuple(dict.fromkeys(("event_time_us", *found))),
            event_from_us=first,
            event_until_us=last,
            version=(past.versions or {}).get(source.name),
        )
        at = service.decision.at(_arrays(source, frame, found))
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


def _decisions(service: FeatureService, past: Past, part: Slice, known_before_us: int) -> Decisions:
    import polars as pl

    decision = service.decision
    fields = _decision_fields(service)
    frame = past.events(
        decision.source,
        fields,
        from_us=part.happened_from_us,
        # What the slice ends with may be a second sighting: the first one may have a later time.
        until_us=part.happened_until_us + past.horizon_us,
    )
    frame = frame.filter(pl.col("known_at_us") < known_before_us)
    at = decision.at(_arrays(decision.source, frame, fields))
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
    asked = [f for v in service.views for f in (*v.entity.keys, *v.asks)]
    reads = [f for c in service.request_columns for f in c.reads]
    numbers = _decision_numbers(service)
    return tuple(dict.fromkeys((decision.entity_id, *asked, *reads, *numbers)))


def _decision_numbers(service: FeatureService) -> tuple[str, ...]:
    # `at` does not say what it reads: give it all numbers.
    fields = kinds(service.decision.source.record)
    return tuple(f for f, kind in fields.items() if kind != "text")


def _frame(service: FeatureService, past: Past, decisions: Decisions) -> pl.DataFrame:
    import polars as pl

    reads = tuple(dict.fromkeys(f for c in service.request_columns for f in c.reads))
    source = service.decision.source
    own = request_values(service, _arrays(source, decisions.frame, reads), len(decisions.as_of_us))
    held = _Held(service.views, past, decisions.as_of_us)
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
    return int(as_of_us.min()) - view.back_us, int(as_of_us.max()) + EARLY_US


def _fields(view: View, event: EventType) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*view.entity.keys, *state_of(view).fields(event))))


class _Held:
    """Events of one slice: each table is read once for all views, and held by event time."""

    def __init__(self, views: Sequence[View], past: Past, as_of_us: Int64Array) -> None:
        self._frames: dict[str, pl.DataFrame] = {}
        if not len(as_of_us):
            return
        until_us = int(as_of_us.max()) + EARLY_US
        for event in dict.fromkeys(e for v in views for e in v.sources):
            of = [v for v in views if event in v.sources]
            self._frames[event.name] = past.events(
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


def _labels(
    label: Label, past: Past, decisions: Decisions, *, known_before_us: int
) -> pl.DataFrame:
    """Columns label and label_known_at_us for the decisions; of several the first known counts."""
    import polars as pl

    if label.within is not None:
        return _within(label, label.within, past, decisions, known_before_us=known_before_us)
    fields = tuple(dict.fromkeys((label.entity_id, *label.reads)))
    asked = pl.DataFrame(
        {"entity_id": decisions.entity_id, "at": pl.Series(decisions.as_of_us, dtype=pl.Int64)}
    ).with_row_index()
    # A label has all the time until the cut-off: the table is gone through for every slice.
    earliest = int(decisions.as_of_us.min(initial=known_before_us)) - DAY
    blocks = past.blocks(label.source, from_us=earliest, until_us=known_before_us + EARLY_US)
    known = pl.concat(
        [
            _told(label, past.events(label.source, fields, from_us=first, until_us=last), asked)
            for first, last in blocks or [(earliest, earliest)]
        ]
    )
    known = (
        known.filter(pl.col("label_known_at_us") < known_before_us)
        .sort("label_known_at_us", "offset")
        .unique("index", keep="first", maintain_order=True)
    )
    joined = asked.join(known, on="index", how="left", maintain_order="left")
    return joined.select("label", "label_known_at_us")


def _within(
    label: Label, within: timedelta, past: Past, decisions: Decisions, *, known_before_us: int
) -> pl.DataFrame:
    """The same for a label that says whether anything happens within a span."""
    import polars as pl

    within_us, wait_us = span_us(within), span_us(label.max_wait)
    fields = tuple(dict.fromkeys((label.entity_id, *label.reads)))
    asked_us = decisions.as_of_us
    frame = past.events(
        label.source,
        fields,
        from_us=int(asked_us.min(initial=known_before_us)),
        until_us=int(asked_us.max(initial=0)) + within_us + 1,
    )
    frame = frame.filter(pl.Series(label.value(_arrays(label.source, frame, label.reads))))
    asked, told = _entity_codes(
        Entity(name="entity", keys=("entity_id",)),
        [
            pl.DataFrame({"entity_id": decisions.entity_id}),
            pl.DataFrame({"entity_id": frame[label.entity_id]}),
        ],
    )
    happened = happened_within(
        group=told,
        happened_us=frame["event_time_us"].to_numpy(),
        known_us=frame["known_at_us"].to_numpy(),
        asked_group=asked,
        asked_us=asked_us,
        within_us=within_us,
        wait_us=wait_us,
    )
    ripe = pl.Series(asked_us + wait_us <= known_before_us, dtype=pl.Boolean)
    return pl.DataFrame(
        {
            "label": pl.Series(happened.astype(np.int8), dtype=pl.Int8),
            "label_known_at_us": pl.Series(asked_us + wait_us, dtype=pl.Int64),
        }
    ).select(pl.when(ripe).then(pl.all()))


def _told(label: Label, frame: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """What these events say about which decision (`index`)."""
    import polars as pl

    frame = frame.join(asked, left_on=label.entity_id, right_on="entity_id", how="semi")
    happened = label.value(_arrays(label.source, frame, label.reads))
    told = pl.DataFrame(
        {
            "entity_id": frame[label.entity_id],
            "label": pl.Series(np.asarray(happened).astype(np.int8), dtype=pl.Int8),
            "label_known_at_us": frame["known_at_us"],
            "offset": frame["offset"],
            "happened_us": frame["event_time_us"],
        }
    )
    joined = told.join(asked, on="entity_id")
    # More than a day earlier: it was about something else.
    joined = joined.filter(pl.col("happened_us") >= pl.col("at") - DAY)
    return joined.select("index", "label", "label_known_at_us", "offset")


def _stop_unless(check: Check, event: EventType, frame: pl.DataFrame) -> None:
    bad = broken(check, _arrays(event, frame, check.reads))
    if bad.any():
        example = frame["event_id"][int(bad.argmax())]
        raise CheckFailed(
            f"{int(bad.sum())} events of {event.name} break the check {check.name!r}, the first one"
            f" is {example!r}",
            hint="mend the source, or let the check blank the field or dead-letter the event",
        )


def _rows(view: View, event: EventType, frame: pl.DataFrame, group: Int64Array) -> Rows:
    """A view's events as the kernel's rows; events about no entity are left out."""
    state = state_of(view)
    known = frame["known_at_us"].to_numpy()
    kept = state.kept(event, _arrays(event, frame, state.fields(event)), known)
    group = group[kept.group]
    named = np.flatnonzero(group >= 0)
    return replace(kept, group=group) if len(named) == len(group) else kept.at(named, group[named])


def _joined(parts: Sequence[Rows]) -> Rows:
    """The rows of several kinds of events, which have the same columns."""
    return Rows(
        group=np.concatenate([p.group for p in parts]),
        label_us=np.concatenate([p.label_us for p in parts]),
        known_us=np.concatenate([p.known_us for p in parts]),
        counts=np.concatenate([p.counts for p in parts]),
        columns={
            name: np.concatenate([p.columns[name] for p in parts]) for name in parts[0].columns
        },
    )


def _arrays(event: EventType, frame: pl.DataFrame, fields: Sequence[str]) -> Columns:
    """The arrays that declarations compute with, of the same types as live."""
    return _Arrays(event, frame, fields)


class _Arrays(Mapping[str, NDArray[Any]]):
    """Each array is made when it is asked for: of a large history they are not all in memory."""

    def __init__(self, event: EventType, frame: pl.DataFrame, fields: Sequence[str]) -> None:
        self._kinds, self._frame, self._fields = kinds(event.record), frame, fields

    def __getitem__(self, name: str) -> NDArray[Any]:
        import polars as pl

        kind, column = self._kinds[name], self._frame[name]
        if kind in ("nullable_int", "float"):
            column = column.cast(pl.Float64)
            if column.null_count():
                column = column.fill_null(float("nan"))
        return column.to_numpy().astype(dtype_of(kind), copy=False)

    def __contains__(self, name: object) -> bool:
        return name in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


def _codes(texts: pl.Series) -> Int64Array:
    import polars as pl

    codes: Int64Array = texts.cast(pl.Categorical).to_physical().to_numpy().astype(np.int64)
    return codes


def _entity_codes(entity: Entity, frames: Sequence[pl.DataFrame]) -> list[Int64Array]:
    """Codes of the entities of each frame, of which the first one asks. Where a key is null: -1,
    and in the first frame a code without events."""
    import polars as pl

    key = pl.concat_str([pl.col(k).cast(pl.String) for k in entity.keys], separator=KEY_SEPARATOR)
    keys = pl.concat([frame.select(key.alias("k")) for frame in frames])["k"]
    codes = keys.cast(pl.Categorical).to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
    asked, *told = np.split(codes, np.cumsum([frame.height for frame in frames])[:-1])
    return [np.where(asked < 0, codes.max(initial=0) + 1, asked), *told]

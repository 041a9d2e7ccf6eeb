"""Features as they were: the values of a service for past decisions, from the offline store.

The same numbers as `features.online` gave, or would have given, at the time: each value uses the
events with `known_at < t` and `event_time >= t - W`, duplicates dropped by `features.duplicates`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from numpy.typing import NDArray

from features.checks import broken
from features.columns import KEY_SEPARATOR, dtype_of, kinds
from features.duplicates import first_sightings
from features.errors import CheckFailed, DataNotReady, FeatureError
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
from infra.clock import DAY, HOUR, from_us

if TYPE_CHECKING:
    import polars as pl

DUPLICATE_HORIZON_US = 48 * HOUR
READY_TOLERANCE_US = 6 * HOUR  # nights without a flight are shorter
EARLY_US = DAY  # more than an event may happen after it was emitted
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
) -> TrainingRows:
    """Decisions with `start_us <= decision time < end_us`, known before the cut-off, with features.

    A label that was not known before `known_before_us` is null. The same call gives the same rows
    and the same sha256 although more events have arrived since. `versions` (event name -> version
    of its table) reads pinned versions instead of the newest.

    Raises:
        CheckFailed: an event that would be used breaks a check whose remedy is to stop.
        DataNotReady: the store's newest event was emitted more than `ready_tolerance_us` before
            the cut-off.
        FeatureError: the decisions would end after the cut-off.
        StoreUnavailable: the store does not answer.
    """
    if end_us > known_before_us:
        raise FeatureError(
            f"decisions until {from_us(end_us)} cannot be known by {from_us(known_before_us)}"
        )
    past = Past(store, versions=versions, horizon_us=duplicate_horizon_us)
    events = {e.name: e for v in service.views for e in v.sources}
    for event in (service.decision.source, label.source):
        events[event.name] = event
    past.require(list(events.values()), until_us=known_before_us - ready_tolerance_us)
    decisions = _decisions(service, past, start_us, end_us, known_before_us)
    frame = _frame(service, past, decisions).hstack(
        _labels(label, past, decisions, known_before_us=known_before_us)
    )
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
            "sha256": content_sha256(frame),
        },
    )


@dataclass(kw_only=True)
class Decisions:
    """What is decided when: one row each, sorted by time and entity id."""

    frame: pl.DataFrame  # fields of the decision's source that the service reads
    entity_id: pl.Series
    as_of_us: Int64Array


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
                hint="does ingest run and keep up? `eventide status`, `eventide audit`",
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
    past: Past,
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
    frames = [
        past.events(
            event,
            tuple(dict.fromkeys((*view.entity.keys, *state.fields(event)))),
            from_us=int(as_of_us.min()) - view.back_us,
            until_us=int(as_of_us.max()) + EARLY_US,
        )
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


def content_sha256(frame: pl.DataFrame) -> str:
    """Of the column names, types and every value, in the frame's order of rows."""
    digest = hashlib.sha256()
    for name in frame.columns:
        column = frame[name]
        digest.update(f"{name}:{column.dtype}:{len(column)}\0".encode())
        if column.dtype.is_float():
            values = column.to_numpy()
            digest.update(np.where(np.isnan(values), np.nan, values).tobytes())  # one kind of NaN
        else:
            digest.update(msgspec.json.encode(column.to_list()))
    return digest.hexdigest()


def _decisions(
    service: FeatureService, past: Past, start_us: int, end_us: int, known_before_us: int
) -> Decisions:
    import polars as pl

    decision = service.decision
    fields = _decision_fields(service)
    frame = past.events(decision.source, fields, until_us=known_before_us + EARLY_US)
    frame = frame.filter(pl.col("known_at_us") < known_before_us)
    at = decision.at(_arrays(decision.source, frame, fields))
    frame = frame.with_columns(pl.Series("_at", at, dtype=pl.Int64))
    frame = frame.filter((pl.col("_at") >= start_us) & (pl.col("_at") < end_us))
    frame = frame.sort("_at", decision.entity_id, "partition", "offset")
    return Decisions(
        frame=frame, entity_id=frame[decision.entity_id], as_of_us=frame["_at"].to_numpy()
    )


def _decision_fields(service: FeatureService) -> tuple[str, ...]:
    decision = service.decision
    asked = [f for v in service.views for f in (*v.entity.keys, *v.asks)]
    reads = [f for c in service.request_columns for f in c.reads]
    # `at` does not say what it reads: give it all numbers.
    numbers = [f for f, kind in kinds(decision.source.record).items() if kind != "text"]
    return tuple(dict.fromkeys((decision.entity_id, *asked, *reads, *numbers)))


def _frame(service: FeatureService, past: Past, decisions: Decisions) -> pl.DataFrame:
    import polars as pl

    reads = tuple(dict.fromkeys(f for c in service.request_columns for f in c.reads))
    source = service.decision.source
    own = request_values(service, _arrays(source, decisions.frame, reads), len(decisions.as_of_us))
    tables = [
        view_values(view, past, decisions.frame, decisions.as_of_us, decided_by=source)
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


def _labels(
    label: Label, past: Past, decisions: Decisions, *, known_before_us: int
) -> pl.DataFrame:
    """Columns label and label_known_at_us for the decisions; of several the first known counts."""
    import polars as pl

    fields = tuple(dict.fromkeys((label.entity_id, *label.reads)))
    earliest = int(decisions.as_of_us.min()) - DAY if len(decisions.as_of_us) else known_before_us
    frame = past.events(
        label.source, fields, from_us=earliest, until_us=known_before_us + EARLY_US
    ).filter(pl.col("known_at_us") < known_before_us)
    happened = label.value(_arrays(label.source, frame, label.reads))
    known = (
        pl.DataFrame(
            {
                "entity_id": frame[label.entity_id],
                "label": pl.Series(np.asarray(happened).astype(np.int8), dtype=pl.Int8),
                "label_known_at_us": frame["known_at_us"],
                "offset": frame["offset"],
            }
        )
        .sort("label_known_at_us", "offset")
        .unique("entity_id", keep="first", maintain_order=True)
    )
    asked = pl.DataFrame({"entity_id": decisions.entity_id})
    joined = asked.join(known, on="entity_id", how="left", maintain_order="left")
    return joined.select("label", "label_known_at_us")


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

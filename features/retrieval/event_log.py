"""Reads events from the offline store: without duplicates, at pinned versions, as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypedDict, Unpack

import numpy as np

from features.definitions import BoolArray, Check, EventType, Int64Array
from features.engine.checks import required_fields, violations
from features.errors import CheckFailed, FeatureError
from features.retrieval.event_arrays import arrays_in, nullified_frame
from features.retrieval.field_sets import distinct
from features.retrieval.manifest import TableUse
from features.retrieval.repeated_events import duplicates, is_first, time_blocks
from features.retrieval.stored_events import CELLS_AT_ONCE, StoredEvents
from features.stores.ports import OfflineStore
from infra.clock import DAY, HOUR

if TYPE_CHECKING:
    import polars as pl

DUPLICATE_HORIZON_US = 48 * HOUR
FURTHER_BACK_US = 7 * DAY  # views of an event read further back than its decisions, read first
_PROBE = 1_009  # every so many rows are compared when a table is read again
_PLACE = ("event_time_us", "known_at_us", "partition", "offset")


class EventSpan(TypedDict, total=False):
    """Which events are read: those with `event_from_us <= event_time < event_until_us` that were
    known at `known_from_us` or later; None, or nothing, is no limit."""

    event_from_us: int | None
    event_until_us: int | None
    known_from_us: int | None


class Events(Protocol):
    """Where the computation of a view reads its events."""

    def stored(
        self,
        event: EventType,
        fields: Sequence[str],
        *,
        at_once: Sequence[str],
        **span: Unpack[EventSpan],
    ) -> StoredEvents:
        """Events without duplicates: times and the fields, of which `at_once` are in memory."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Rereading:
    """Reads further fields of the events that were read before. `counts`: which of the rows in the
    store they are, None for all; `offsets`: some of theirs."""

    store: OfflineStore
    event: EventType
    span: EventSpan
    version: int | None
    counts: BoolArray | None
    offsets: pl.Series

    def __call__(self, names: Sequence[str]) -> pl.DataFrame:
        needed = required_fields(self.event, names)
        columns = distinct(("offset",), needed)
        frame = self.store.read(self.event, columns=columns, version=self.version, **self.span)
        if self.counts is not None:
            frame = frame.filter(self.counts)
        if not _probed(frame).equals(self.offsets):
            raise FeatureError(
                f"{self.event.name}: the offline store gave other rows when version {self.version}"
                " was read again"
            )
        return nullified_frame(self.event, frame, needed).select(names)


@dataclass(frozen=True, kw_only=True)
class _Duplicates:
    """The `places` of the duplicates of a version that were known at `known_from_us` or later."""

    version: int | None
    known_from_us: int
    places: Int64Array


@dataclass
class EventLog:
    """Events of the offline store at pinned versions, each one once; `used` is what was read.

    Events that were known at `known_before_us` or later do not exist, if it is given.
    """

    store: OfflineStore
    versions: Mapping[str, int] | None = None
    horizon_us: int = DUPLICATE_HORIZON_US
    known_before_us: int | None = None
    used: dict[str, TableUse] = field(default_factory=dict)
    _duplicates: dict[str, _Duplicates] = field(default_factory=dict)

    def pin_newest(self, events: Sequence[EventType]) -> None:
        """Read the newest version of each table from now on, or the one that is given."""
        newest = {e.name: self.store.version(e) for e in events}
        self.versions = {
            **{n: v for n, v in newest.items() if v is not None},
            **(self.versions or {}),
        }

    def events(
        self,
        event: EventType,
        fields: Sequence[str],
        **span: Unpack[EventSpan],
    ) -> pl.DataFrame:
        """Events without duplicates: times, partition, offset and the fields, which are null where
        a check nullifies them."""
        return self._read(event, fields, span, self._version(event))[0]

    def stored(
        self,
        event: EventType,
        fields: Sequence[str],
        *,
        at_once: Sequence[str],
        **span: Unpack[EventSpan],
    ) -> StoredEvents:
        """The same events: the fields `at_once` are read now, the others now if they are few, and
        else when they are needed."""
        version = self._version(event)
        if self._are_few(event, fields):
            at_once = fields
        elif version is None:
            version = self.store.version(event)
        frame, counts = self._read(event, at_once, span, version)
        return StoredEvents(
            event=event,
            frame=frame,
            later=tuple(name for name in fields if name not in frame.columns),
            read=_Rereading(
                store=self.store,
                event=event,
                span=span,
                version=version,
                counts=counts,
                offsets=_probed(frame),
            ),
        )

    def _version(self, event: EventType) -> int | None:
        return (self.versions or {}).get(event.name)

    def _are_few(self, event: EventType, fields: Sequence[str]) -> bool:
        """Whether all values of the fields fit into memory at once."""
        snapshot = self.store.snapshot(event)
        rows = sum(snapshot.rows.values()) if snapshot else 0
        return rows * len(fields) <= CELLS_AT_ONCE

    def _read(
        self,
        event: EventType,
        fields: Sequence[str],
        span: EventSpan,
        version: int | None,
    ) -> tuple[pl.DataFrame, BoolArray | None]:
        """The events, and which of the rows in the store they are; None for all of them."""
        stops = event.checks_with("stop")
        of_checks = ("event_id", *(f for check in stops for f in check.reads)) if stops else ()
        needed = required_fields(event, fields)
        columns = distinct(_PLACE, needed, of_checks)
        frame = self.store.read(event, columns=columns, version=version, **span)
        counts = is_first(frame, self._duplicates_in(event, version, frame))
        if self.known_before_us is not None:
            counts &= frame["known_at_us"].to_numpy() < self.known_before_us
        every = bool(counts.all())
        if not every:
            frame = frame.filter(counts)
        for check in stops:
            _stop_unless(check, event, frame)
        self._note(event, version, frame)
        frame = nullified_frame(event, frame, needed)
        frame = frame if "event_id" in fields or not stops else frame.drop("event_id")
        return frame, None if every else counts

    def blocks(
        self, event: EventType, *, from_us: int | None = None, until_us: int
    ) -> list[tuple[int, int]]:
        """Consecutive spans of event time with about half a million events each.

        They cover all events, so a caller can read a table without having all of it in memory.
        """
        version = self._version(event)
        return time_blocks(self.store, event, version=version, from_us=from_us, until_us=until_us)

    def _duplicates_in(
        self, event: EventType, version: int | None, frame: pl.DataFrame
    ) -> Int64Array:
        """The duplicates among the events of a frame, and others; found once a version."""
        if frame.is_empty():
            return np.empty(0, np.int64)
        needed_from_us = int(frame["known_at_us"].to_numpy().min())
        current = self.store.version(event) if version is None else version
        known = self._duplicates.get(event.name)
        if known is None or known.version != current or needed_from_us < known.known_from_us:
            known_from_us = needed_from_us - FURTHER_BACK_US
            known = self._duplicates[event.name] = _Duplicates(
                version=current,
                known_from_us=known_from_us,
                places=duplicates(
                    self.store,
                    event,
                    horizon_us=self.horizon_us,
                    version=version,
                    known_from_us=known_from_us,
                ),
            )
        return known.places

    def _note(self, event: EventType, version: int | None, frame: pl.DataFrame) -> None:
        import polars as pl

        spans = frame.group_by("partition").agg(
            pl.col("offset").min().alias("first"), pl.col("offset").max().alias("last")
        )
        before = self.used.get(event.name)
        offsets = dict(before.offsets) if before else {}
        for partition, first, last in sorted(spans.iter_rows()):
            key = f"{event.name}-{partition}"
            low, high = offsets.get(key, (first, last))
            offsets[key] = (min(low, first), max(high, last))
        self.used[event.name] = TableUse(
            delta_version=before.delta_version if before else version,
            # Several views read one table.
            rows_read=max(before.rows_read if before else 0, frame.height),
            offsets=offsets,
        )


def _stop_unless(check: Check, event: EventType, frame: pl.DataFrame) -> None:
    bad = violations(check, arrays_in(event, frame, check.reads))
    if bad.any():
        example = frame["event_id"][int(bad.argmax())]
        raise CheckFailed(
            event=event.name, check=check.name, events=int(bad.sum()), example=example
        )


def _probed(frame: pl.DataFrame) -> pl.Series:
    """Some of the offsets, which tell whether the rows are the same and in the same order."""
    return frame["offset"].gather_every(_PROBE).append(frame["offset"].tail(1))

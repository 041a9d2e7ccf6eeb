"""Rebuilds the online store from the offline one while ingest runs.

Each table is read at one version, and the new online store gets the positions of that version.
Ingest notices that the positions have changed, restarts from them, and adds the later events.

Memory holds the values of one view, one slice of events (`BatchSizes.slice_rows`, or one day if it
has more), and the ids that ingest itself keeps.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import TYPE_CHECKING

from features.definitions import EventType, View
from features.engine.columns import encode_keys, entity_keys
from features.engine.deduplication import SeenIds, ids_kept_us
from features.engine.event_rows import EventRows, view_rows
from features.engine.sorting import UNSET
from features.engine.state import COMPACTION_SLACK
from features.engine.view_rows import merge_rows
from features.engine.view_states import state_of
from features.errors import DataNotReady
from features.retrieval.event_log import drop_duplicates_mask
from features.retrieval.field_sets import distinct, source_fields
from features.stores.declared_views import DeclaredViews
from features.stores.log_entries import origins_of
from features.stores.ports import OfflineStore, OnlineContent, OnlineStore, TableSnapshot
from infra.clock import DAY, from_us, to_us
from infra.kafka.partitions import Partition
from infra.process.progress import StatusCallback

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, kw_only=True)
class BatchSizes:
    """How much is in memory at once. `ids_per_slice`: ingest deletes seen ids by whole slices."""

    slice_rows: int = 250_000
    values_per_batch: int = 5_000
    ids_per_slice: int = 10_000
    compaction_slack: int = COMPACTION_SLACK  # see `state_of`


@dataclass(frozen=True, kw_only=True)
class RebuildRules:
    """The rules of ingest: which events are duplicates, how far back online values are exact."""

    duplicate_horizon_us: int
    hold_us: int


@dataclass(frozen=True, kw_only=True)
class RebuildResult:
    """What an online store was rebuilt from, and what it holds now.

    `versions`: of the tables, by event. `values`: one for each view and entity.
    """

    versions: Mapping[str, int]
    events: int
    views: int
    values: int


def rebuild(
    views: Sequence[View],
    events: Sequence[EventType],
    *,
    offline: OfflineStore,
    online: OnlineStore,
    rules: RebuildRules,
    on_progress: StatusCallback,
    sizes: BatchSizes | None = None,
) -> RebuildResult:
    """Replace all content of `online` in one step.

    `events`: all that ingest takes, also those that no view reads, for their positions.

    Raises:
        DataNotReady: there is no offline store yet; the online one is as it was.
        StoreUnavailable: a store does not respond; the online one is as it was.
    """
    tables = _snapshots(offline, events)
    history = _History(offline, tables, rules, sizes or BatchSizes())
    values = _ViewValues(views, history, on_progress)
    on_progress("reading the ids of events")
    declared = DeclaredViews(views)
    seen = [s for event in tables for s in history.seen(event, views)]
    online.replace(
        OnlineContent(
            values=values,
            positions={p: o for s in tables.values() for p, o in s.positions.items()},
            seen=seen,
            schemas=declared.schema_ids,
            origins=origins_of(offline.log_entries()),
        )
    )
    declared.adopt(online)
    return RebuildResult(
        versions={e.name: s.version for e, s in tables.items()},
        events=sum(sum(s.rows.values()) for s in tables.values()),
        views=len(views),
        values=values.count,
    )


def _snapshots(
    offline: OfflineStore, events: Sequence[EventType]
) -> dict[EventType, TableSnapshot]:
    """The newest versions of all tables that exist.

    Raises:
        DataNotReady: there is none.
    """
    snapshots = {e: offline.snapshot(e) for e in events}
    tables = {e: s for e, s in snapshots.items() if s is not None}
    if not tables:
        raise DataNotReady(
            "there is no offline store yet, from which the online one could be rebuilt",
            hint="run `eventide ingest`, which fills both from the topics",
        )
    return tables


@dataclass(frozen=True, kw_only=True)
class _TimeRange:
    """Event times `from_us <= t < until_us`."""

    from_us: int
    until_us: int


class _ViewValues:
    """The values of all views in batches, one view after the other."""

    def __init__(
        self, views: Sequence[View], history: "_History", on_progress: StatusCallback
    ) -> None:
        self._views, self._history, self._on_progress = views, history, on_progress
        self.count = 0

    def __iter__(self) -> Iterator[tuple[str, list[tuple[bytes, bytes]]]]:
        compacted_through_us = self._history.compacted_through_us
        for n, view in enumerate(self._views, start=1):
            values = self._of_view(view, f"view {view.name}, {n} of {len(self._views)}")
            self.count += len(values)
            items = iter(values.items())
            while batch := list(islice(items, self._history.sizes.values_per_batch)):
                self._on_progress(f"view {view.name}: {self.count:,} values")
                # Compact small values too: each value records the time from which on it is exact.
                entities, uncompacted = zip(*batch, strict=True)
                compacted = state_of(view).compact(uncompacted, entities, compacted_through_us)
                yield view.name, list(zip(entities, compacted, strict=True))

    def _of_view(self, view: View, status: str) -> dict[bytes, bytes]:
        values: dict[bytes, bytes] = {}
        history, empty = self._history, state_of(view).empty
        for event in view.sources:
            for span in history.spans(event):
                self._on_progress(f"{status}: {event.name} since {from_us(span.from_us):%Y-%m-%d}")
                if span.until_us <= history.compacted_through_us - view.lookback_us:
                    # No window reaches these events. But an entity without any value would look
                    # like one without history, so it gets an empty value.
                    for entity in history.entities(view, event, span):
                        values.setdefault(entity, empty)
                    continue
                rows = history.events(view, event, span)
                change = view_rows(view, rows, compaction_slack=history.sizes.compaction_slack)
                if change is not None:
                    merge_rows(
                        change, history.compacted_through_us, get=values.get, put=values.__setitem__
                    )
        return values


class _History:
    """The tables at their versions, in spans that fit into memory."""

    def __init__(
        self,
        store: OfflineStore,
        tables: Mapping[EventType, TableSnapshot],
        rules: RebuildRules,
        sizes: BatchSizes,
    ) -> None:
        self._store, self._tables, self._rules, self.sizes = store, tables, rules, sizes
        known = [s.newest_known_at_us for s in tables.values()]
        newest = max((k for k in known if k is not None), default=None)
        self.compacted_through_us = UNSET if newest is None else newest - rules.hold_us

    def spans(self, event: EventType) -> list[_TimeRange]:
        """Whole days with events."""
        table = self._tables.get(event)
        return [] if table is None else _spans(table.rows, self.sizes.slice_rows)

    def events(self, view: View, event: EventType, span: _TimeRange) -> EventRows:
        """The fields that a view reads of the events of a span, without duplicates."""
        fields = source_fields(view, event)
        # A duplicate may have another event time than its first sighting, within the horizon.
        frame = self._read(
            event,
            ("event_id", "event_time_us", *fields),
            from_us=span.from_us - self._rules.duplicate_horizon_us,
            until_us=span.until_us,
        )
        counts = drop_duplicates_mask(frame, horizon_us=self._rules.duplicate_horizon_us)
        frame = frame.filter(counts & (frame["event_time_us"].to_numpy() >= span.from_us))
        return EventRows(
            event=event,
            fields={name: frame[name].to_list() for name in fields},
            partition=frame["partition"].to_numpy(),
            offset=frame["offset"].to_numpy(),
            known_at_us=frame["known_at_us"].to_numpy(),
        )

    def entities(self, view: View, event: EventType, span: _TimeRange) -> list[bytes]:
        """The entities of the events of a span."""
        keys = view.entity.keys
        frame = self._store.read(
            event,
            columns=keys,
            event_from_us=span.from_us,
            event_until_us=span.until_us,
            version=self._tables[event].version,
        ).unique()
        return encode_keys(entity_keys(view.entity, {k: frame[k].to_list() for k in keys}))[0]

    def seen(self, event: EventType, views: Sequence[View]) -> Iterator[SeenIds]:
        """The ids that ingest needs, in slices; none for an event that no view reads."""
        import polars as pl

        readers = [view for view in views if event in view.sources]
        if not readers or not self.spans(event):
            return
        kept_us = ids_kept_us(
            readers, horizon_us=self._rules.duplicate_horizon_us, hold_us=self._rules.hold_us
        )
        newest = self._newest_by_partition(event)
        recent = pl.concat(
            self._read_range(event, span, ("event_id",))
            .join(newest, on="partition")
            .filter(pl.col("known_at_us") >= pl.col("newest") - kept_us)
            for span in self.spans(event)
        ).sort("partition", "offset")
        for (number,), own in recent.group_by("partition", maintain_order=True):
            for part in own.iter_slices(self.sizes.ids_per_slice):
                yield SeenIds(
                    partition=Partition(event.name, int(str(number))),
                    first_offset=part["offset"][0],
                    ids=part["event_id"].to_list(),
                    known_at_us=part["known_at_us"].to_numpy(),
                )

    def _newest_by_partition(self, event: EventType) -> "pl.DataFrame":
        import polars as pl

        newest = pl.col("known_at_us").max().alias("newest")
        newest_by_span = [
            self._read_range(event, span, ()).group_by("partition").agg(newest)
            for span in self.spans(event)
        ]
        return pl.concat(newest_by_span).group_by("partition").agg(pl.col("newest").max())

    def _read_range(
        self, event: EventType, span: _TimeRange, columns: Sequence[str]
    ) -> "pl.DataFrame":
        return self._read(event, columns, from_us=span.from_us, until_us=span.until_us)

    def _read(
        self, event: EventType, columns: Sequence[str], *, from_us: int, until_us: int
    ) -> "pl.DataFrame":
        places = ("partition", "offset", "known_at_us")
        return self._store.read(
            event,
            columns=distinct(places, columns),
            event_from_us=from_us,
            event_until_us=until_us,
            version=self._tables[event].version,
        )


def _spans(rows: Mapping[date, int], slice_rows: int) -> list[_TimeRange]:
    """The days with events; neighbours are joined while they have at most `slice_rows` rows."""
    spans: list[_TimeRange] = []
    room = 0
    for day, count in sorted(rows.items()):
        start = to_us(day)
        if spans and count <= room:
            spans[-1] = _TimeRange(from_us=spans[-1].from_us, until_us=start + DAY)
        else:
            spans.append(_TimeRange(from_us=start, until_us=start + DAY))
            room = slice_rows
        room -= count
    return spans

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

from features.definitions import EventType, Int64Array, OpenView, PreviousView, View
from features.engine.columns import encode_keys, entity_keys
from features.engine.deduplication import MAX_SEEN_IDS, SeenIds, ids_kept_us
from features.engine.event_rows import EventRows, view_rows
from features.engine.sorting import UNSET
from features.engine.value_limits import DEFAULT_LIMITS, ValueLimits
from features.engine.view_rows import merge_into
from features.engine.view_states import state_of
from features.errors import DataNotReady
from features.retrieval.field_sets import distinct, source_fields
from features.retrieval.repeated_events import duplicates, is_first
from features.stores.declared_views import DeclaredViews, each_once
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


@dataclass(frozen=True, kw_only=True)
class RebuildRules:
    """The rules of ingest: which events are duplicates, how far back online values are exact, how
    long after its emission an event may happen, how many rows a value and how many ids a partition
    may have."""

    duplicate_horizon_us: int
    hold_us: int
    max_future_us: int = 0
    limits: ValueLimits = DEFAULT_LIMITS
    max_seen_ids: int = MAX_SEEN_IDS


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
        DeclarationError: two views have one name.
        StoreUnavailable: a store does not respond; the online one is as it was.
    """
    views, tables = each_once(views), _snapshots(offline, events)
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
                state = state_of(view, limits=self._history.rules.limits)
                compacted = state.compact(uncompacted, entities, compacted_through_us)
                yield view.name, list(zip(entities, compacted, strict=True))

    def _of_view(self, view: View, status: str) -> dict[bytes, bytes]:
        values: dict[bytes, bytes] = {}
        history, empty = self._history, state_of(view).empty
        for event in view.sources:
            for span in history.spans(event):
                self._on_progress(f"{status}: {event.name} since {from_us(span.from_us):%Y-%m-%d}")
                oldest_us = history.compacted_through_us - view.lookback_us
                out_of_reach = span.until_us <= oldest_us
                if out_of_reach:
                    # No window reaches these events. But an entity without any value would look
                    # like one without history, so it gets an empty value.
                    for entity in history.entities(view, event, span):
                        values.setdefault(entity, empty)
                    if not isinstance(view, OpenView | PreviousView):
                        continue
                # An event about an item counts by when it became known.
                known_from_us = oldest_us if out_of_reach else None
                rows = history.events(view, event, span, known_from_us=known_from_us)
                change = view_rows(view, rows, limits=history.rules.limits)
                if change is not None:
                    merge_into(values, change, history.compacted_through_us)
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
        self._store, self._tables, self.rules, self.sizes = store, tables, rules, sizes
        self._duplicates: dict[EventType, Int64Array] = {}
        known = [(e, s.newest_known_at_us) for e, s in tables.items()]
        # Events that are known with a delay were emitted before.
        emitted = [k - e.known_after_us for e, k in known if k is not None]
        newest = max(emitted, default=None)
        self.compacted_through_us = UNSET if newest is None else newest - rules.hold_us

    def spans(self, event: EventType) -> list[_TimeRange]:
        """Whole days with events."""
        table = self._tables.get(event)
        return [] if table is None else _spans(table.rows, self.sizes.slice_rows)

    def events(
        self, view: View, event: EventType, span: _TimeRange, *, known_from_us: int | None = None
    ) -> EventRows:
        """The fields that a view reads of the events of a span, without duplicates."""
        fields = source_fields(view, event)
        frame = self._read_range(event, span, fields, known_from_us=known_from_us)
        frame = frame.filter(is_first(frame, self._duplicates_of(event)))
        return EventRows(
            event=event,
            fields={name: frame[name].to_list() for name in fields},
            partition=frame["partition"].to_numpy(),
            offset=frame["offset"].to_numpy(),
            known_at_us=frame["known_at_us"].to_numpy(),
        )

    def _duplicates_of(self, event: EventType) -> Int64Array:
        """The places of all duplicates of a table."""
        if event not in self._duplicates:
            self._duplicates[event] = duplicates(
                self._store,
                event,
                horizon_us=self.rules.duplicate_horizon_us,
                version=self._tables[event].version,
            )
        return self._duplicates[event]

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
        readers = [view for view in views if event in view.sources]
        if not readers or not self.spans(event):
            return
        kept_us = ids_kept_us(
            readers,
            event,
            horizon_us=self.rules.duplicate_horizon_us,
            hold_us=self.rules.hold_us,
            max_future_us=self.rules.max_future_us,
        )
        sightings = self._sightings(event, kept_us)
        for (number,), own in sightings.group_by("partition", maintain_order=True):
            partition = Partition(event.name, int(str(number)))
            # Ingest forgets whole slices too, from the oldest one on.
            dropped = own.head(max(0, len(own) - self.rules.max_seen_ids))
            if len(dropped):
                yield SeenIds(
                    partition=partition,
                    first_offset=dropped["offset"][0],
                    ids=(),
                    known_at_us=dropped["known_at_us"].to_numpy().max(keepdims=True),
                )
            for part in own.slice(len(dropped)).iter_slices(self.sizes.ids_per_slice):
                yield SeenIds(
                    partition=partition,
                    first_offset=part["offset"][0],
                    ids=part["event_id"].to_list(),
                    known_at_us=part["known_at_us"].to_numpy(),
                )

    def _sightings(self, event: EventType, kept_us: int) -> "pl.DataFrame":
        """Ids known at most `kept_us` before the newest of their partition, in order.

        A copy with an older time may follow one of them. It stays too: the last sighting of an id
        decides whether the next one is a duplicate.
        """
        import polars as pl

        newest, parts = self._newest_by_partition(event), []
        for span in self.spans(event):
            ids = self._read_range(event, span, ("event_id",))
            is_copy = pl.Series("is_copy", ~is_first(ids, self._duplicates_of(event)))
            ids = ids.with_columns(is_copy).join(newest, on="partition")
            is_recent = pl.col("known_at_us") >= pl.col("newest") - kept_us
            parts.append(
                ids.with_columns(is_recent=is_recent).filter(
                    pl.col("is_recent") | pl.col("is_copy")
                )
            )
        ids_of_days = pl.concat(parts)
        recent = ids_of_days.filter("is_recent").select("partition", "event_id").unique()
        return ids_of_days.join(recent, on=("partition", "event_id"), how="semi").sort(
            "partition", "offset"
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
        self,
        event: EventType,
        span: _TimeRange,
        columns: Sequence[str],
        *,
        known_from_us: int | None = None,
    ) -> "pl.DataFrame":
        return self._store.read(
            event,
            columns=distinct(("partition", "offset", "known_at_us"), columns),
            event_from_us=span.from_us,
            event_until_us=span.until_us,
            known_from_us=known_from_us,
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

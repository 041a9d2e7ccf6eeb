"""The online sink of ingest: drops records that it already has and duplicates, applies the rest."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from features.definitions import BoolArray, View
from features.engine.deduplication import (
    MAX_SEEN_IDS,
    DeduplicationWindow,
    SeenIds,
    ids_kept_us,
)
from features.engine.event_rows import EventRows, not_yet_applied, view_rows
from features.engine.sorting import UNSET
from features.engine.value_limits import DEFAULT_LIMITS, ValueLimits
from features.engine.view_rows import ViewRows
from features.ingestion.compaction_watermark import CompactionWatermark
from features.stores.declared_views import DeclaredViews, each_once
from features.stores.guards import check_positions
from features.stores.log_gaps import ONLINE, SinkPosition
from features.stores.ports import OnlineStore, OnlineUpdate
from infra.kafka.logs import Origins
from infra.kafka.partitions import Partition, Positions


class OnlineSink:
    """Writes the partitions that were given to `load`. A partition has one writer at a time.

    `watermark` says how far values may be compacted; from there on they are exact.
    """

    def __init__(
        self,
        store: OnlineStore,
        views: Sequence[View],
        *,
        duplicate_horizon_us: int,
        watermark: CompactionWatermark,
        max_future_us: int = 0,
        limits: ValueLimits = DEFAULT_LIMITS,
        max_seen_ids: int = MAX_SEEN_IDS,
        keeps_undeclared: bool = False,
    ) -> None:
        """`max_future_us`: how long after its emission an event may happen. `max_seen_ids`: how
        many are remembered for a partition. `keeps_undeclared`: the views of a domain that is left
        out stay in the store, as they were when its events were last read.

        Raises:
            DeclarationError: two views have one name.
        """
        self._store = store
        self._views: dict[str, list[View]] = {}
        for view in each_once(views):
            for event in view.sources:
                self._views.setdefault(event.name, []).append(view)
        self._declared = DeclaredViews(views)
        self._keeps_undeclared = keeps_undeclared
        self._undeclared: Mapping[str, int] = {}
        self._horizon_us, self._watermark = duplicate_horizon_us, watermark
        self._max_future_us, self._max_seen_ids = max_future_us, max_seen_ids
        self._limits = limits
        self._positions: dict[Partition, int] = {}
        self._seen: dict[Partition, DeduplicationWindow] = {}
        self._newest_us: dict[Partition, int] = {}
        self.duplicates = 0  # dropped since the start
        self.forgotten_early = 0  # ids of events, because there were too many of them
        self.left_out: Counter[str] = Counter()
        """By view: how many events it does not count since the start (see `ViewRows`)."""

    def find(self, partitions: Collection[Partition]) -> dict[Partition, SinkPosition]:
        """Where the store stands, and in which logs; partitions without a position are left out."""
        stored, origins = self._store.positions(), self._store.origins()
        return {
            p: SinkPosition(sink=ONLINE, position=stored[p], origin=origins.get(p))
            for p in partitions
            if p in stored
        }

    def origins(self) -> Origins:
        """The logs that the store has noted."""
        return self._store.origins()

    def adopt(self, origins: Origins) -> None:
        """Note the logs of positions in the store that do not have theirs noted yet."""
        stored = self._store.origins()
        if new := {p: origin for p, origin in origins.items() if stored.get(p) != origin}:
            self._store.set_origins(new)

    def load(self, partitions: Collection[Partition]) -> Positions:
        """Read positions and seen ids from the store; partitions without a position are left out.

        Raises:
            ViewSchemaMismatch: the store was built under other declarations.
            StoreUnavailable: it does not respond.
        """
        if self._keeps_undeclared:
            self._undeclared = self._store.schema_ids()
        self._declared.adopt(self._store)
        stored = self._store.positions()
        positions = {p: stored[p] for p in partitions if p in stored}
        newest_us = self._store.newest_known_at_us()
        for partition in partitions:
            self._newest_us[partition] = newest_us.get(partition, UNSET)
            self._positions[partition] = positions.get(partition, 0)
            slices = self._store.seen_ids(partition) if partition.topic in self._views else ()
            self._seen[partition] = DeduplicationWindow(
                self._horizon_us,
                slices,
                keep_us=self._keep_us(partition.topic),
                max_ids=self._max_seen_ids,
            )
        return positions

    def write(self, rows: Sequence[EventRows], taken: Positions) -> None:
        """Apply the events at or above our positions, and move these to `taken`.

        Raises:
            OffsetConflict, StoreUnavailable: nothing was written; `load` before the next write.
        """
        ends = {p: o for p, o in taken.items() if o > self._positions[p]}
        if not ends:
            return
        changes: list[ViewRows] = []
        seen: list[SeenIds] = []
        newest_us: dict[Partition, int] = {}
        for of_topic in rows:
            new = not_yet_applied(of_topic, self._positions)
            if len(new):
                newest_us |= self._newest_of(new)
                changes += self._changes(new, seen)
        forget, replaced = self._forget({s.partition for s in seen})
        self._store.apply(
            OnlineUpdate(
                changes=changes,
                starts={p: self._positions[p] for p in ends},
                ends=ends,
                compacted_through_us=self._compacted_through_us(),
                seen=[*seen, *replaced],
                forget=forget,
                schemas={**self._undeclared, **self._declared.schema_ids},
                newest_us=newest_us,
            )
        )
        self._positions |= ends

    def check(self, partitions: Collection[Partition]) -> None:
        """Check that the store still has our positions: a rebuild may have replaced it.

        Raises:
            OffsetConflict: it does not; `load` before the next write.
            StoreUnavailable: it does not respond.
        """
        expected = {p: self._positions[p] for p in partitions if p in self._positions}
        check_positions(self._store.positions(), expected, store="online")

    def _keep_us(self, topic: str) -> int:
        views = self._views.get(topic)
        if not views:
            return 0
        return ids_kept_us(
            views,
            next(event for event in views[0].sources if event.name == topic),
            horizon_us=self._horizon_us,
            hold_us=self._watermark.most_us,
            max_future_us=self._max_future_us,
        )

    def _changes(self, rows: EventRows, seen: list[SeenIds]) -> list[ViewRows]:
        """The rows that the events add to the views; their ids are appended to `seen`."""
        views = self._views.get(rows.event.name, ())
        if not views:
            return []
        counts, may_repeat = self._first_sightings(rows, seen)
        counted, may_repeat = rows.where(counts), may_repeat[counts]
        if not len(counted):
            return []
        changes = [
            view_rows(view, counted, may_repeat=may_repeat, limits=self._limits) for view in views
        ]
        made = [change for change in changes if change is not None]
        self.left_out.update({c.state.name: c.left_out for c in made if c.left_out})
        return [change for change in made if len(change.rows)]

    def _first_sightings(self, rows: EventRows, seen: list[SeenIds]) -> tuple[BoolArray, BoolArray]:
        """Which events are no duplicates, as far as ids are known, and which may be ones."""
        counts, may_repeat = np.ones(len(rows), bool), np.zeros(len(rows), bool)
        ids = rows.fields["event_id"]
        for number in np.unique(rows.partition).tolist():
            partition = Partition(rows.event.name, number)
            at = np.flatnonzero(rows.partition == number)
            seen_ids = SeenIds(
                partition=partition,
                first_offset=self._positions[partition],
                ids=[ids[i] for i in at.tolist()],
                known_at_us=rows.known_at_us[at],
            )
            counts[at] = self._seen[partition].first_sightings(seen_ids)
            may_repeat[at] = self._seen[partition].may_repeat(seen_ids.known_at_us)
            seen.append(seen_ids)
        self.duplicates += int(len(counts) - counts.sum())
        return counts, may_repeat

    def _forget(
        self, partitions: Collection[Partition]
    ) -> tuple[list[tuple[Partition, int]], list[SeenIds]]:
        """The slices of seen ids to delete, and those to replace."""
        forget: list[tuple[Partition, int]] = []
        replaced: list[SeenIds] = []
        for partition in partitions:
            window = self._seen[partition]
            before = window.forgotten_early
            offsets, slices = window.forget()
            forget += [(partition, offset) for offset in offsets]
            replaced += slices
            self.forgotten_early += window.forgotten_early - before
        return forget, replaced

    def _newest_of(self, rows: EventRows) -> dict[Partition, int]:
        """The newest emission of each of their partitions, these rows included."""
        newest_us = {}
        for number in np.unique(rows.partition).tolist():
            partition = Partition(rows.event.name, number)
            newest = int(rows.emissions_us[rows.partition == number].max())
            newest_us[partition] = max(newest, self._newest_us[partition])
        self._newest_us |= newest_us
        return newest_us

    def _compacted_through_us(self) -> int:
        return self._watermark.compacted_through_us(max(self._newest_us.values(), default=UNSET))

"""What ingest, retrieval and maintenance need of a store.

Every adapter passes the same contract tests (`tests/contract`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from features.definitions import EventType
from features.engine.deduplication import SeenIds
from infra.kafka.logs import LogOrigin, Origins
from infra.kafka.partitions import Partition, Positions

if TYPE_CHECKING:
    from datetime import date

    import polars as pl

    from features.engine.view_rows import ViewRows

META = ("known_at_us", "ingest_time_us", "partition", "offset")
"""Columns of an event in the offline store beside its own fields."""


@dataclass(frozen=True, kw_only=True)
class EventBatch:
    """Events of one type, for the offline store.

    `columns` has the record's fields and those of `META`, all of one length; rows of a partition
    are in the order of their offsets. `starts`: the position that the writer expects the store to
    have for each partition of the batch. `ends`: the position after it. A batch without rows only
    moves positions.
    """

    event: EventType
    columns: Mapping[str, Sequence[Any]]
    starts: Positions
    ends: Positions

    def __len__(self) -> int:
        return len(self.columns["offset"])


@dataclass(frozen=True, kw_only=True)
class TableSnapshot:
    """An event's table at one moment.

    Reading at `version` gives exactly the events below `positions`. `rows`: how many there are, by
    the day of their event time.
    """

    version: int
    positions: Positions
    newest_known_at_us: int | None
    rows: Mapping[date, int]


@dataclass(frozen=True, kw_only=True)
class Pin:
    """A version of an event's table that has to stay readable; `name` says what needs it."""

    event: str
    version: int
    name: str


class LogEntry(Struct, frozen=True, kw_only=True):
    """From which log a partition's positions are, since when; the newest entry of one holds.

    An entry with a `gap` also records what was lost before that log, and who accepted it.
    """

    topic: str
    partition: int
    origin: LogOrigin
    since_us: int
    number: int = 0  # in the order in which the entries were added
    gap: AcceptedGap | None = None

    @property
    def place(self) -> Partition:
        """The partition."""
        return Partition(self.topic, self.partition)


class AcceptedGap(Struct, frozen=True, kw_only=True):
    """Records that are lost for good. Positions are stored ones, by the name of the sink.

    `positions`: where the sinks stood. `resume`: where they continue. `first`, `end`: what the log
    held at that moment, as offsets. `previous_topic_id`: of the log that they had read before.
    """

    kind: str
    positions: dict[str, int]
    resume: dict[str, int]
    first: int
    end: int
    previous_topic_id: str
    by: str
    reason: str


class OfflineStore(Protocol):
    """Every event that was ever ingested, raw, once for each time it was sent.

    An event's record may get new fields with a default: rows from before have that default. Any
    other change of a record is refused by every call that is given it.

    Every method raises StoreUnavailable when the store does not respond, and SchemaChanged when the
    event's record no longer fits what is stored.
    """

    def positions(self, topics: Iterable[str]) -> Positions:
        """The next offset of each partition that was ever written; others are left out."""
        ...

    def append(self, batch: EventBatch) -> None:
        """Add rows and move positions: both or neither.

        Raises:
            OffsetConflict: the positions of the store are not `batch.starts`; nothing was written.
            StoreUnavailable: not known to be written; read `positions`.
        """
        ...

    def log_entries(self) -> Sequence[LogEntry]:
        """From which logs the positions are: every entry, in order."""
        ...

    def add_log_entries(self, entries: Sequence[LogEntry]) -> None:
        """Add entries after those that are there; their numbers are set.

        Raises:
            StoreUnavailable: nothing was added.
        """
        ...

    def version(self, event: EventType) -> int | None:
        """The newest version of the event's table; None if nothing was ever written.

        Reading at it gives the same rows again, for as long as maintenance retains old files, and
        for ever if it is pinned.
        """
        ...

    def snapshot(self, event: EventType) -> TableSnapshot | None:
        """The newest version with its positions; None if nothing was ever written.

        It is readable for as long as `version` promises.
        """
        ...

    def pin(self, event: EventType, version: int, name: str) -> None:
        """Keep a version readable until `unpin`. Pinning it again changes nothing.

        Raises:
            StoreUnavailable: there is no such version.
        """
        ...

    def unpin(self, name: str) -> None:
        """Delete all pins of that name. The next maintenance deletes files that only they kept."""
        ...

    def pins(self) -> Sequence[Pin]:
        """Every pin, by event, version and name."""
        ...

    def newest_known_at_us(self, event: EventType, *, version: int | None = None) -> int | None:
        """The latest `known_at_us` in the event's table; None when it is empty."""
        ...

    def read(
        self,
        event: EventType,
        *,
        columns: Sequence[str],
        event_from_us: int | None = None,
        event_until_us: int | None = None,
        known_from_us: int | None = None,
        version: int | None = None,
    ) -> pl.DataFrame:
        """Rows with `event_from_us <= event_time_us < event_until_us` and
        `known_from_us <= known_at_us`, in any order: the same one for any columns of a version.

        `columns` are fields of the record or names in `META`. Duplicates are included.
        """
        ...


class OfflineMaintenance(Protocol):
    """Keeps the number of files of an offline store small, while ingest keeps writing.

    No method changes what a reader sees, and each may be called again at any time.
    """

    def files(self, event: EventType) -> int:
        """How many files its table has; 0 when there is none."""
        ...

    def days_to_compact(self, event: EventType) -> Sequence[date]:
        """The days whose rows are in more files than their size needs."""
        ...

    def compact(self, event: EventType, day: date) -> None:
        """Merge the files of a day, sorted by key and time, if it still has too many.

        Raises:
            WriteConflict: another process wrote to the day or compacts the table; try again.
        """
        ...

    def checkpoint(self, event: EventType) -> None:
        """Write a checkpoint of the log, so that opening the table does not read all of it."""
        ...

    def vacuum(self, event: EventType, *, retention_hours: int, keep: Collection[int]) -> int:
        """Delete files that have been out of the table for longer than the retention, and those
        of crashed writers that are older; but none that a version in `keep` needs.

        Returns how many.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class OnlineUpdate:
    """One batch for the online store.

    `starts`: the position that the writer expects for each partition of the update, at least one.
    `ends`: the position after it, which is larger. Values may merge rows that were known before
    `compacted_through_us`. `forget` names slices of seen ids (partition, first offset) that are too
    old to matter. `schemas`: the schema id of every view that the writer maintains, with or without
    rows in this update. Any other view may miss events from now on, so `schema_ids` no longer lists
    it. `newest_us`: the newest emission that was applied of a partition, this update included;
    other partitions do not change.
    """

    changes: Sequence[ViewRows]
    starts: Positions
    ends: Positions
    compacted_through_us: int
    seen: Sequence[SeenIds] = ()
    forget: Sequence[tuple[Partition, int]] = ()
    schemas: Mapping[str, int] = field(default_factory=dict)
    newest_us: Mapping[Partition, int] = field(default_factory=dict)


class DeclaredView(Struct, frozen=True, kw_only=True):
    """The declaration under which a view's values were written; see `ViewIdentity`.

    `adopted`: the ids of earlier rules under which some of its values are still sealed. `eventide`,
    `python`: the versions of the process that recorded it last; they do not count.
    """

    schema_id: int
    parts: Mapping[str, str]
    packages: Mapping[str, str]
    read_formulas: Mapping[str, str]
    eventide: str
    python: str
    adopted: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class OnlineContent:
    """The whole content of an online store, computed elsewhere.

    `values`: batches of (view name, [(entity, value)]), computed while they are iterated.
    """

    values: Iterable[tuple[str, Sequence[tuple[bytes, bytes]]]]
    positions: Positions
    seen: Sequence[SeenIds]
    schemas: Mapping[str, int]
    origins: Origins = field(default_factory=dict)  # without any, those of the store stay


@dataclass(frozen=True, kw_only=True)
class ValuePage:
    """Some values of a view. `after` gets the next ones; it is empty at the end.

    `entities`: whose values they are; a very long one by its `short_name`.
    """

    values: Sequence[bytes]
    entities: Sequence[bytes]
    after: bytes


# Two stores behind one port: see docs/explanation/decisions/0007-two-online-stores.md
class OnlineStore(Protocol):
    """The state of every view and entity, for reading within microseconds.

    Each partition has one writer; any number of processes read. A reader sees whole updates only.
    In a store on several machines it may see an update that is not on all of them yet, but it sees
    everything below `positions`.
    """

    def apply(self, update: OnlineUpdate) -> None:
        """Merge the rows, move the positions, add the ids: all of it or nothing.

        Raises:
            OffsetConflict: the positions of the store are not `update.starts`; nothing was written.
            StalePositions: another change made the writer's positions invalid, such as a `clear`.
            StoreUnavailable: not known to be written; read `positions`.
        """
        ...

    def get(self, wanted: Sequence[tuple[str, Sequence[bytes]]]) -> list[list[bytes | None]]:
        """For each (view name, entities): their values, None where there is none.

        On one machine, all values of a call are of one moment.
        """
        ...

    def positions(self) -> Positions:
        """The next offset of each partition: all events below it are in the values."""
        ...

    def origins(self) -> Origins:
        """The logs that the positions belong to; `clear` and `replace` keep them."""
        ...

    def set_origins(self, origins: Origins) -> None:
        """Add or replace the origins of these partitions."""
        ...

    def newest_known_at_us(self) -> Mapping[Partition, int]:
        """The newest emission in the values, for each partition with any event.

        An event may be known later than it was emitted (`known_after`).
        """
        ...

    def seen_ids(self, partition: Partition) -> list[SeenIds]:
        """The seen ids of a partition, oldest slice first."""
        ...

    def schema_ids(self) -> Mapping[str, int]:
        """The views that have every event from the first one on: name -> schema id."""
        ...

    def declarations(self) -> Mapping[str, DeclaredView]:
        """What was recorded of the declarations of views, by name."""
        ...

    def declare(
        self, declared: Mapping[str, DeclaredView], *, replacing: Mapping[str, int]
    ) -> None:
        """Record the declarations of views. Those in `schema_ids` get their new id there too, and
        no value changes.

        Raises:
            StoreReplaced: `schema_ids` is not `replacing` any more; nothing was written.
        """
        ...

    def entities(self, view: str) -> int:
        """How many entities have a value."""
        ...

    def page(self, view: str, *, after: bytes, limit: int) -> ValuePage:
        """About `limit` values of a view, in any order; `after` is empty at first.

        A value that is there all the time is returned once a round.
        """
        ...

    def clear(self) -> None:
        """Delete everything, positions too: ingest then fills the store from the topics."""
        ...

    def replace(self, content: OnlineContent) -> None:
        """Replace the whole content in one step.

        Readers and writers see the old content or the new one, never a part of it, also after a
        crash. All of `content` is computed before that step, so nobody waits for it. A damaged
        store is created again.

        Raises:
            StoreUnavailable: the old content is still there.
        """
        ...

    def close(self) -> None:
        """Close files and connections."""
        ...

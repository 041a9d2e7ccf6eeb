"""Both stores in memory, for tests and for trying a declaration on a few events."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from features.definitions import EventType
from features.engine.deduplication import SeenIds
from features.engine.view_rows import merge_into
from features.errors import StoreUnavailable
from features.stores.guards import adopted_ids, check_positions, check_schema_ids
from features.stores.log_entries import numbered
from features.stores.ports import (
    META,
    DeclaredView,
    EventBatch,
    LogEntry,
    OnlineContent,
    OnlineUpdate,
    Pin,
    TableSnapshot,
    ValuePage,
)
from features.stores.schema_evolution import (
    Stored,
    added_fields,
    check_declared,
    check_nulls,
    declared_types,
    filling,
    stored_types,
)
from infra.clock import DAY, from_us
from infra.kafka.logs import LogOrigin, Origins
from infra.kafka.partitions import Partition, Positions

if TYPE_CHECKING:
    import polars as pl


class MemoryOnlineStore:
    """The online store in dictionaries."""

    def __init__(self) -> None:
        self._values: dict[str, dict[bytes, bytes]] = {}
        self._positions: dict[Partition, int] = {}
        self._newest_us: dict[Partition, int] = {}
        self._seen: dict[tuple[Partition, int], SeenIds] = {}
        self._schemas: dict[str, int] = {}
        self._origins: dict[Partition, LogOrigin] = {}
        self._declared: dict[str, DeclaredView] = {}

    def apply(self, update: OnlineUpdate) -> None:
        check_positions(self._positions, update.starts, store="online")
        values = {view: dict(entities) for view, entities in self._values.items()}
        for change in update.changes:
            merge_into(
                values.setdefault(change.state.name, {}), change, update.compacted_through_us
            )
        self._values = values
        self._positions |= update.ends
        self._newest_us |= update.newest_us
        self._schemas = dict(update.schemas)
        self._seen |= {(s.partition, s.first_offset): s for s in update.seen}
        for forgotten in update.forget:
            self._seen.pop(forgotten, None)

    def get(self, wanted: Sequence[tuple[str, Sequence[bytes]]]) -> list[list[bytes | None]]:
        return [
            [self._values.get(view, {}).get(entity) for entity in entities]
            for view, entities in wanted
        ]

    def positions(self) -> Positions:
        return dict(self._positions)

    def origins(self) -> Origins:
        return dict(self._origins)

    def set_origins(self, origins: Origins) -> None:
        self._origins |= origins

    def newest_known_at_us(self) -> Mapping[Partition, int]:
        return dict(self._newest_us)

    def seen_ids(self, partition: Partition) -> list[SeenIds]:
        return [s for (p, _), s in sorted(self._seen.items(), key=lambda i: i[0]) if p == partition]

    def schema_ids(self) -> Mapping[str, int]:
        return dict(self._schemas)

    def declarations(self) -> Mapping[str, DeclaredView]:
        return dict(self._declared)

    def declare(
        self, declared: Mapping[str, DeclaredView], *, replacing: Mapping[str, int]
    ) -> None:
        check_schema_ids(self._schemas, replacing)
        self._declared |= declared
        self._schemas = adopted_ids(self._schemas, declared)

    def entities(self, view: str) -> int:
        return len(self._values.get(view, {}))

    def page(self, view: str, *, after: bytes, limit: int) -> ValuePage:
        values = self._values.get(view, {})
        # An entity may be the empty text, so what comes after it is known by a prefix.
        following = sorted(entity for entity in values if b"=" + entity > after)
        page = following[:limit]
        last = b"=" + page[-1] if len(following) > limit else b""
        return ValuePage(values=[values[e] for e in page], entities=page, after=last)

    def clear(self) -> None:
        self._values, self._positions, self._seen = {}, {}, {}
        self._schemas, self._newest_us, self._declared = {}, {}, {}

    def replace(self, content: OnlineContent) -> None:
        values: dict[str, dict[bytes, bytes]] = {}
        for view, batch in content.values:
            values.setdefault(view, {}).update(batch)
        self._values, self._positions = values, dict(content.positions)
        self._seen = {(s.partition, s.first_offset): s for s in content.seen}
        self._schemas, self._declared = dict(content.schemas), {}
        self._origins |= content.origins

    def close(self) -> None:
        """Nothing to release."""


class MemoryOfflineStore:
    """The offline store in data frames. A version is a number of commits."""

    def __init__(self) -> None:
        self._commits: dict[str, list[pl.DataFrame]] = {}
        self._stored: dict[str, dict[str, Stored]] = {}  # the fields that a table has
        self._declared: dict[str, dict[str, str]] = {}
        self._positions: dict[Partition, int] = {}
        self._pins: set[tuple[str, int, str]] = set()
        self._log_entries: list[LogEntry] = []

    def positions(self, topics: Iterable[str]) -> Positions:
        wanted = set(topics)
        return {p: o for p, o in self._positions.items() if p.topic in wanted}

    def append(self, batch: EventBatch) -> None:
        import polars as pl

        self._check_fit(batch.event)
        check_positions(self._positions, batch.starts, store="offline")
        frame = pl.DataFrame(dict(batch.columns), schema=_schema(batch.event))
        self._commits.setdefault(batch.event.name, []).append(frame)
        self._stored[batch.event.name] = stored_types(batch.event)
        self._declared[batch.event.name] = declared_types(batch.event)
        self._positions |= batch.ends

    def log_entries(self) -> list[LogEntry]:
        return list(self._log_entries)

    def add_log_entries(self, entries: Sequence[LogEntry]) -> None:
        self._log_entries += numbered(entries, after=self._log_entries)

    def version(self, event: EventType) -> int | None:
        self._check_fit(event)
        commits = self._commits.get(event.name)
        return len(commits) if commits else None

    def snapshot(self, event: EventType) -> TableSnapshot | None:
        version = self.version(event)
        if version is None:
            return None
        times = self.read(event, columns=["event_time_us"])["event_time_us"]
        return TableSnapshot(
            version=version,
            positions=self.positions([event.name]),
            newest_known_at_us=self.newest_known_at_us(event),
            rows=Counter(from_us(t - t % DAY).date() for t in times),
        )

    def newest_known_at_us(self, event: EventType, *, version: int | None = None) -> int | None:
        frame = self.read(event, columns=["known_at_us"], version=version)
        newest: Any = frame["known_at_us"].max()
        return newest

    def read(
        self,
        event: EventType,
        *,
        columns: Sequence[str],
        event_from_us: int | None = None,
        event_until_us: int | None = None,
        known_from_us: int | None = None,
        version: int | None = None,
    ) -> "pl.DataFrame":
        import polars as pl

        self._check_fit(event)
        commits = self._commits.get(event.name, [])[:version]
        frame = pl.concat([pl.DataFrame(schema=_schema(event)), *commits], how="diagonal")
        frame = frame.with_columns(pl.col(f).fill_null(v) for f, v in filling(event).items())
        if event_from_us is not None:
            frame = frame.filter(pl.col("event_time_us") >= event_from_us)
        if event_until_us is not None:
            frame = frame.filter(pl.col("event_time_us") < event_until_us)
        if known_from_us is not None:
            frame = frame.filter(pl.col("known_at_us") >= known_from_us)
        frame = frame.select(columns)
        check_nulls(event, frame)
        return frame

    def pin(self, event: EventType, version: int, name: str) -> None:
        if not 0 < version <= len(self._commits.get(event.name, [])):
            raise StoreUnavailable(f"{event.name} has no version {version}")
        self._pins.add((event.name, version, name))

    def unpin(self, name: str) -> None:
        self._pins = {pin for pin in self._pins if pin[2] != name}

    def pins(self) -> list[Pin]:
        return [Pin(event=e, version=v, name=n) for e, v, n in sorted(self._pins)]

    def _check_fit(self, event: EventType) -> None:
        if event.name in self._stored:
            added_fields(event, self._stored[event.name])
            check_declared(event, self._declared[event.name])


def _schema(event: EventType) -> "dict[str, Any]":
    import polars as pl

    types: dict[Stored, Any] = {"int": pl.Int64, "float": pl.Float64, "text": pl.String}
    fields = {name: types[stored] for name, stored in stored_types(event).items()}
    return fields | dict.fromkeys(META, pl.Int64)

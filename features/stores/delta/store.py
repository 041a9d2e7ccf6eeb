"""The offline store in Delta Lake: one append-only table for each event type.

A commit has the rows and, as application transactions, the new position of each of their
partitions. Delta does not compare these positions with the stored ones. So the writer refreshes its
handle, checks the stored positions and commits with the same handle. If another writer has moved a
position in between, Delta refuses the commit.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from features.definitions import EventType
from features.errors import SchemaChanged, StalePositions, StoreUnavailable, WriteConflict
from features.stores.delta.log_entries import DeltaLogEntries
from features.stores.delta.pins import DeltaPins
from features.stores.delta.tables import (
    HOOKS,
    Tables,
    arrow_of,
    collected,
    event_columns,
    properties_of,
    reaching,
    remembered_types,
    schema_of,
    writer_of,
)
from features.stores.guards import check_positions
from features.stores.ports import EventBatch, LogEntry, Pin, TableSnapshot
from features.stores.schema_evolution import (
    added_fields,
    check_declared,
    check_nulls,
    declared_types,
    filling,
)
from infra.clock import from_us
from infra.kafka.partitions import Partition, Positions

if TYPE_CHECKING:
    from datetime import date

    import polars as pl

# An open handle gets slower with each commit, from 14 ms to 150 ms after 500.
COMMITS_BEFORE_REOPENING = 32
COMMIT_ATTEMPTS = 10
APPLICATION = "ingest"


class DeltaOfflineStore:
    """The offline store under a folder or URL, on Delta Lake.

    Times are int64 microseconds as everywhere else, not Delta timestamps. So engines need not agree
    about time zones, and files are still pruned by the statistics of these columns.
    """

    def __init__(
        self,
        root: str,
        events: Sequence[EventType],
        *,
        options: Mapping[str, str] | None = None,
        commits_before_reopening: int = COMMITS_BEFORE_REOPENING,
    ) -> None:
        self._tables = Tables(root, options)
        self._pins = DeltaPins(self._tables)
        self._log_entries = DeltaLogEntries(self._tables)
        self._events = {e.name: e for e in events}
        self._opened: dict[EventType, DeltaTable] = {}
        self._versions: dict[EventType, DeltaTable] = {}
        self._commits: dict[str, int] = {}
        self._commits_before_reopening = commits_before_reopening

    def positions(self, topics: Iterable[str]) -> Positions:
        positions: dict[Partition, int] = {}
        for topic in topics:
            table = self._open(self._events[topic])
            if table is not None:
                positions |= _positions(table, _partitions(table, self._events[topic]))
        return positions

    def append(self, batch: EventBatch) -> None:
        """New fields widen the table in the same commit.

        Another process may commit first: a maintenance, or a writer of other partitions with new
        fields. As long as our positions have not moved, the append is repeated.
        """
        for _ in range(COMMIT_ATTEMPTS):
            try:
                self._append(batch)
            except WriteConflict as error:
                conflict = error
            else:
                return
        raise StalePositions(f"other processes write without a pause: {conflict}") from conflict

    def version(self, event: EventType) -> int | None:
        table = self._open(event)
        return None if table is None else table.version()

    def newest_known_at_us(self, event: EventType, *, version: int | None = None) -> int | None:
        """Read from the log, not from the rows."""
        table = self._open(event) if version is None else self._at(event, version)
        return None if table is None else _newest_known_at_us(_files(table))

    def snapshot(self, event: EventType) -> TableSnapshot | None:
        """Read from one handle without a refresh, so that all of it is of one version."""
        table = self._open(event)
        if table is None:
            return None
        files = _files(table)
        return TableSnapshot(
            version=table.version(),
            positions=_positions(table, _partitions(table, event)),
            newest_known_at_us=_newest_known_at_us(files),
            rows=_rows_by_day(files),
        )

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
        """Days and files outside the spans are not opened."""
        import polars as pl

        table = self._open(event) if version is None else self._pinned(event, version)
        if table is None:
            return pl.DataFrame(schema=_types(event)).select(columns)
        rows = _with_defaults(pl.scan_delta(table), event, _added(event, table))
        if event_from_us is not None:
            rows = rows.filter(
                pl.col("event_date") >= from_us(event_from_us).date(),
                pl.col("event_time_us") >= event_from_us,
            )
        if event_until_us is not None:
            rows = rows.filter(
                pl.col("event_date") <= from_us(event_until_us).date(),
                pl.col("event_time_us") < event_until_us,
            )
        if known_from_us is not None:
            rows = rows.filter(pl.col("known_at_us") >= known_from_us)
        frame = collected(rows.select(columns), f"cannot read the offline table {event.name}")
        check_nulls(event, frame)
        return frame

    def pin(self, event: EventType, version: int, name: str) -> None:
        self._at(event, version)
        self._pins.add(Pin(event=event.name, version=version, name=name))

    def unpin(self, name: str) -> None:
        self._pins.remove(name)

    def pins(self) -> list[Pin]:
        return self._pins.all()

    def log_entries(self) -> list[LogEntry]:
        return self._log_entries.all()

    def add_log_entries(self, entries: Sequence[LogEntry]) -> None:
        self._log_entries.add(list(entries))

    def _append(self, batch: EventBatch) -> None:
        table = self._open(batch.event) or self._create(batch.event)
        hint = f"is there space, and permission to write, under {self._tables.root}?"
        try:
            _remember(table, batch.event)
            # No refresh from here on, so that check and commit are one compare-and-set.
            check_positions(_positions(table, batch.starts), batch.starts, store="offline")
            with reaching(f"cannot append to the offline table {batch.event.name}", hint=hint):
                self._commit(table, batch)
        except (StoreUnavailable, WriteConflict):
            self._forget(batch.event)
            raise

    def _open(self, event: EventType) -> DeltaTable | None:
        """The table at its newest version, checked against the event; None if there is none yet."""
        table = self._opened.get(event) or self._tables.open(event.name)
        if table is None:
            return None
        try:
            with reaching(f"cannot open {self._tables.path(event.name)}"):
                table.update_incremental()
            _added(event, table)
            check_declared(event, remembered_types(table))
        except (StoreUnavailable, SchemaChanged):
            self._forget(event)
            raise
        self._opened[event] = table
        return table

    def _at(self, event: EventType, version: int) -> DeltaTable:
        table = self._tables.open(event.name, version=version)
        assert table is not None  # a version that is not there is StoreUnavailable
        return table

    def _pinned(self, event: EventType, version: int) -> DeltaTable:
        """A version does not change: what reads it again and again opens it once."""
        table = self._versions.get(event)
        if table is None or table.version() != version:
            table = self._versions[event] = self._at(event, version)
        return table

    def _create(self, event: EventType) -> DeltaTable:
        table = self._tables.create(
            event.name,
            schema_of(event),
            partition_by=["event_date"],
            properties=properties_of(event),
        )
        self._opened[event] = table
        return table

    def _commit(self, table: DeltaTable, batch: EventBatch) -> None:
        write_deltalake(
            table,
            arrow_of(batch),
            mode="append",
            schema_mode="merge" if _added(batch.event, table) else None,
            writer_properties=writer_of(batch.event),
            post_commithook_properties=HOOKS,
            commit_properties=CommitProperties(
                app_transactions=[
                    *(Transaction(_app(p), end) for p, end in batch.ends.items()),
                    *_added_partitions(table, batch),
                ]
            ),
        )
        commits = self._commits.get(batch.event.name, 0) + 1
        self._commits[batch.event.name] = commits
        if commits % self._commits_before_reopening == 0:
            table.create_checkpoint()
            self._forget(batch.event)

    def _forget(self, event: EventType) -> None:
        self._opened.pop(event, None)


def _added(event: EventType, table: DeltaTable) -> tuple[str, ...]:
    return added_fields(event, event_columns(table))


def _remember(table: DeltaTable, event: EventType) -> None:
    """Let the table remember what its fields are declared as, if that has changed."""
    declared = declared_types(event)
    if remembered_types(table) == declared:
        return
    with reaching(f"cannot change the offline table {event.name}"):
        table.alter.set_table_properties(
            properties_of(event), raise_if_not_exists=False, post_commithook_properties=HOOKS
        )


def _app(partition: Partition) -> str:
    return f"{APPLICATION}:{partition.topic}:{partition.number}"


def _count_app(event: EventType) -> str:
    return f"{APPLICATION}:{event.name}:partitions"


def _added_partitions(table: DeltaTable, batch: EventBatch) -> list[Transaction]:
    """How many partitions have positions, if the topic has more than the event declares: a table
    can be asked for a position only by its name."""
    count = 1 + max((p.number for p in batch.ends), default=0)
    if count <= batch.event.partitions or count <= len(_partitions(table, batch.event)):
        return []
    return [Transaction(_count_app(batch.event), count)]


def _partitions(table: DeltaTable, event: EventType) -> list[Partition]:
    """Those that the event declares, and those that its topic was given since."""
    count = max(event.partitions, table.transaction_version(_count_app(event)) or 0)
    return [Partition(event.name, n) for n in range(count)]


def _files(table: DeltaTable) -> pa.Table:
    # `pa.table` would import pandas, to see whether this is one of its frames.
    return pa.RecordBatchReader.from_stream(table.get_add_actions(flatten=True)).read_all()


def _newest_known_at_us(files: pa.Table) -> int | None:
    newest: int | None = pc.max(files["max.known_at_us"]).as_py() if files.num_rows else None
    return newest


def _rows_by_day(files: pa.Table) -> "dict[date, int]":
    by_day: Counter[date] = Counter()
    days, rows = files["partition.event_date"], files["num_records"]
    # Grouping by Arrow would import pandas.
    for day, count in zip(days.to_pylist(), rows.to_pylist(), strict=True):
        by_day[day] += count
    return dict(by_day)


def _positions(table: DeltaTable, partitions: Iterable[Partition]) -> dict[Partition, int]:
    stored = {p: table.transaction_version(_app(p)) for p in partitions}
    return {p: offset for p, offset in stored.items() if offset is not None}


def _types(event: EventType) -> "pl.Schema":
    """The types of an event's table. An empty Arrow table has them too, but imports pandas."""
    import polars as pl

    return pl.Schema(schema_of(event))


def _with_defaults(rows: "pl.LazyFrame", event: EventType, added: Sequence[str]) -> "pl.LazyFrame":
    """Fill fields that were added later with their defaults."""
    import polars as pl

    types, defaults = _types(event), filling(event)
    lacking = [pl.lit(None, types[name]).alias(name) for name in added]
    filled = [pl.col(name).fill_null(value) for name, value in defaults.items()]
    return rows.with_columns(lacking).with_columns(filled)

"""The offline store in Delta Lake: one append-only table for each event type.

A commit carries the rows and, as application transactions, the next offset of each partition in
it. Delta does not refuse a position that is already in, so the writer refreshes its handle, reads
the positions and commits with the same handle: if another writer moved one in between, the commit
fails.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from features.columns import Kind, kinds
from features.errors import PositionMoved, StoreUnavailable
from features.ports import META, EventBatch
from features.vocabulary import EventType
from infra.clock import DAY
from infra.kafka.partitions import Partition, Positions

if TYPE_CHECKING:
    import polars as pl

# A kept handle gets slower with each commit, from 14 ms to 150 ms after 500.
COMMITS_BEFORE_REOPENING = 32
APPLICATION = "ingest"

# The checkpoint is ours to make, with the reopening. Logs are kept: old versions stay readable.
_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
_TYPES: dict[Kind, Any] = {
    "int": pa.int64(),
    "nullable_int": pa.int64(),
    "float": pa.float64(),
    "text": pa.string(),
}


class DeltaOfflineStore:
    """See `features.ports.OfflineStore`.

    Times are int64 microseconds as everywhere else, not Delta timestamps: no engine then has to
    agree with another about time zones, and the files' statistics prune on them all the same.
    """

    def __init__(self, root: str, events: Sequence[EventType]) -> None:
        self._root = root.rstrip("/")
        self._events = {e.name: e for e in events}
        self._tables: dict[str, DeltaTable] = {}
        self._commits: dict[str, int] = {}

    def positions(self, topics: Iterable[str]) -> Positions:
        """See the port."""
        found: dict[Partition, int] = {}
        for topic in topics:
            table = self._open(self._events[topic])
            if table is not None:
                partitions = [Partition(topic, n) for n in range(self._events[topic].partitions)]
                found |= _positions(table, partitions)
        return found

    def append(self, batch: EventBatch) -> None:
        """See the port."""
        table = self._open(batch.event) or self._create(batch.event)
        try:
            # No refresh from here on: that is what makes it compare-and-set.
            _check_positions(table, batch.starts)
            self._commit(table, batch)
        except CommitFailedError as error:
            self._forget(batch.event)
            raise PositionMoved(
                f"another process wrote to {batch.event.name} at the same time: {_sentence(error)}"
            ) from error
        except (DeltaError, OSError) as error:
            self._forget(batch.event)
            raise StoreUnavailable(
                f"cannot append to the offline table {batch.event.name}: {_sentence(error)}",
                hint=f"is there room and a right to write under {self._root}?",
            ) from error

    def version(self, event: EventType) -> int | None:
        """See the port."""
        table = self._open(event)
        return None if table is None else table.version()

    def newest_known_at_us(self, event: EventType, *, version: int | None = None) -> int | None:
        """See the port. It is read from the log, not from the rows."""
        table = self._open(event) if version is None else self._at(event, version)
        if table is None:
            return None
        files = pa.table(table.get_add_actions(flatten=True))
        if not files.num_rows:
            return None
        newest: int | None = pc.max(files["max.known_at_us"]).as_py()
        return newest

    def read(
        self,
        event: EventType,
        *,
        columns: Sequence[str],
        event_from_us: int | None = None,
        event_until_us: int | None = None,
        version: int | None = None,
    ) -> "pl.DataFrame":
        """See the port. Days and files outside the span are not opened."""
        import polars as pl

        table = self._open(event) if version is None else self._at(event, version)
        if table is None:
            return _nothing(event).select(columns)
        rows = pl.scan_delta(table)
        if event_from_us is not None:
            rows = rows.filter(
                pl.col("event_date") >= _date(event_from_us),
                pl.col("event_time_us") >= event_from_us,
            )
        if event_until_us is not None:
            rows = rows.filter(
                pl.col("event_date") <= _date(event_until_us),
                pl.col("event_time_us") < event_until_us,
            )
        try:
            return rows.select(columns).collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise StoreUnavailable(
                f"cannot read the offline table {event.name}: {_sentence(error)}"
            ) from error

    def _open(self, event: EventType) -> DeltaTable | None:
        """The table as it is now; None if there is none yet."""
        try:
            if event.name not in self._tables:
                self._tables[event.name] = DeltaTable(self._path(event))
            table = self._tables[event.name]
            table.update_incremental()
        except TableNotFoundError:
            return None
        except (DeltaError, OSError) as error:
            self._forget(event)
            raise StoreUnavailable(
                f"cannot open {self._path(event)}: {_sentence(error)}"
            ) from error
        return table

    def _at(self, event: EventType, version: int) -> DeltaTable:
        try:
            return DeltaTable(self._path(event), version=version)
        except (DeltaError, OSError) as error:
            raise StoreUnavailable(
                f"cannot read version {version} of {self._path(event)}: {_sentence(error)}"
            ) from error

    def _create(self, event: EventType) -> DeltaTable:
        try:
            if "://" not in self._root:
                Path(self._root).mkdir(parents=True, exist_ok=True)
            # Another process may have made it a moment ago: that is fine too.
            self._tables[event.name] = DeltaTable.create(
                self._path(event), _schema(event), mode="ignore", partition_by=["event_date"]
            )
        except (DeltaError, OSError) as error:
            raise StoreUnavailable(
                f"cannot create {self._path(event)}: {_sentence(error)}",
                hint="is there room and a right to write? `offline_store` names the folder",
            ) from error
        return self._tables[event.name]

    def _commit(self, table: DeltaTable, batch: EventBatch) -> None:
        write_deltalake(
            table,
            _arrow(batch),
            mode="append",
            writer_properties=_writer(batch.event),
            post_commithook_properties=_HOOKS,
            commit_properties=CommitProperties(
                app_transactions=[Transaction(_app(p), end) for p, end in batch.ends.items()]
            ),
        )
        done = self._commits.get(batch.event.name, 0) + 1
        self._commits[batch.event.name] = done
        if done % COMMITS_BEFORE_REOPENING == 0:
            table.create_checkpoint()
            self._forget(batch.event)

    def _forget(self, event: EventType) -> None:
        self._tables.pop(event.name, None)

    def _path(self, event: EventType) -> str:
        return f"{self._root}/{event.name}"


def _sentence(error: Exception) -> str:
    """The library writes several lines, in colour; the first one says it."""
    return str(error).partition("\n")[0]


def _app(partition: Partition) -> str:
    return f"{APPLICATION}:{partition.topic}:{partition.number}"


def _positions(table: DeltaTable, partitions: Iterable[Partition]) -> dict[Partition, int]:
    found = {p: table.transaction_version(_app(p)) for p in partitions}
    return {p: offset for p, offset in found.items() if offset is not None}


def _check_positions(table: DeltaTable, starts: Positions) -> None:
    stored = _positions(table, starts)
    for partition, start in starts.items():
        if stored.get(partition, 0) != start:
            raise PositionMoved(
                f"the offline store stands at {stored.get(partition, 0)} of {partition.topic}-"
                f"{partition.number}, not at {start}: another process writes it"
            )


def _schema(event: EventType) -> Any:
    # What files are pruned by comes first: statistics are kept of the first 32 columns.
    return pa.schema(
        [
            ("event_date", pa.date32()),
            ("known_at_us", pa.int64()),
            ("ingest_time_us", pa.int64()),
            ("topic", pa.string()),
            ("partition", pa.int64()),
            ("offset", pa.int64()),
            *((name, _TYPES[kind]) for name, kind in _fields_by_time(event)),
        ]
    )


def _fields_by_time(event: EventType) -> list[tuple[str, Kind]]:
    fields = kinds(event.record)
    return sorted(fields.items(), key=lambda f: f[0] != "event_time_us")


def _arrow(batch: EventBatch) -> Any:
    schema = _schema(batch.event)
    columns = {name: batch.columns[name] for name in (*kinds(batch.event.record), *META)}
    times = pa.array(columns["event_time_us"], pa.int64())
    columns["event_date"] = pc.cast(pc.cast(pc.divide(times, DAY), pa.int32()), pa.date32())
    columns["topic"] = pa.array([batch.event.name]).take(pa.array([0] * len(batch), pa.int32()))
    return pa.table([pa.array(columns[f.name], f.type) for f in schema], schema=schema)


def _writer(event: EventType) -> WriterProperties:
    texts = [name for name, kind in kinds(event.record).items() if kind == "text"]
    repeating = ["topic", *(name for name in texts if name != "event_id")]
    return WriterProperties(
        compression="ZSTD",
        compression_level=1,
        # A dictionary pays for text that repeats. Of numbers and ids it costs a tenth of a commit's
        # CPU (of floats alone five times the rest) and a tenth of the room.
        default_column_properties=ColumnProperties(dictionary_enabled=False),
        column_properties={name: ColumnProperties(dictionary_enabled=True) for name in repeating},
    )


def _date(time_us: int) -> Any:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time_us // 1_000_000, UTC).date()


def _nothing(event: EventType) -> "pl.DataFrame":
    import polars as pl

    return pl.DataFrame(pl.from_arrow(_schema(event).empty_table()))

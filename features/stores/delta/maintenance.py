"""Maintenance of the Delta tables while ingest writes to them.

The library's own compaction is not used. Two of them at once both succeed and double the rows
(deltalake 1.6.6), and they ignore an application transaction that would prevent it. A whole day is
overwritten instead: Delta refuses that when anything was written to the day in between. Each
overwrite also takes the next number of an application transaction, which only one process can take.
An append that conflicts with an overwrite is repeated in `DeltaOfflineStore.append`. The positions
of ingest are part of the table and stay.
"""

from collections.abc import Collection, Mapping
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from features.definitions import EventType
from features.stores.delta.tables import HOOKS, Tables, reaching, writer_of

if TYPE_CHECKING:
    import polars as pl

APPLICATION = "upkeep"
FILE_BYTES = 128 << 20  # a day of more is several files


class DeltaMaintenance:
    """Compacts, checkpoints and vacuums the tables under a root. A day has to fit into memory."""

    def __init__(self, root: str, *, options: Mapping[str, str] | None = None) -> None:
        self._tables = Tables(root, options)

    def files(self, event: EventType) -> int:
        table = self._tables.open(event.name)
        return 0 if table is None else _files(table).num_rows

    def days_to_compact(self, event: EventType) -> list[date]:
        return _days_to_compact(self._existing(event))

    def compact(self, event: EventType, day: date) -> None:
        with reaching(f"cannot compact {day} of the offline table {event.name}"):
            # One handle, without a refresh: it replaces exactly what was read, or nothing.
            table = self._existing(event)
            if day not in _days_to_compact(table):
                return
            last = table.transaction_version(APPLICATION) or 0
            write_deltalake(
                table,
                _sorted_rows(table, event, day),
                mode="overwrite",
                predicate=f"event_date = '{day}'",
                target_file_size=FILE_BYTES,
                writer_properties=writer_of(event),
                post_commithook_properties=HOOKS,
                commit_properties=CommitProperties(
                    app_transactions=[Transaction(APPLICATION, last + 1)]
                ),
            )

    def checkpoint(self, event: EventType) -> None:
        with reaching(f"cannot write a checkpoint of the offline table {event.name}"):
            self._existing(event).create_checkpoint()

    def vacuum(self, event: EventType, *, retention_hours: int, keep: Collection[int]) -> int:
        table = self._existing(event)
        with reaching(f"cannot vacuum the offline table {event.name}"):
            # Each vacuum makes two commits, even if it deletes nothing: so check first.
            if not _vacuum(table, retention_hours, keep, dry_run=True):
                return 0
            return len(_vacuum(table, retention_hours, keep, dry_run=False))

    def _existing(self, event: EventType) -> DeltaTable:
        table = self._tables.open(event.name)
        assert table is not None  # `files` is not 0
        return table


def _files(table: DeltaTable) -> pa.Table:
    return pa.table(table.get_add_actions(flatten=True))


def _days_to_compact(table: DeltaTable) -> list[date]:
    by_day = _files(table).group_by("partition.event_date")
    days = by_day.aggregate([("size_bytes", "sum"), ("size_bytes", "count")]).to_pylist()
    return [
        day["partition.event_date"]
        for day in days
        if day["size_bytes_count"] > 1 + day["size_bytes_sum"] // FILE_BYTES
    ]


def _sorted_rows(table: DeltaTable, event: EventType, day: date) -> "pl.DataFrame":
    import polars as pl

    rows = pl.scan_delta(table).filter(pl.col("event_date") == day)
    return rows.sort(event.key, "event_time_us", "partition", "offset").collect()


def _vacuum(
    table: DeltaTable, retention_hours: int, keep: Collection[int], *, dry_run: bool
) -> list[str]:
    return table.vacuum(
        retention_hours=retention_hours,
        enforce_retention_duration=False,  # ours may be shorter than the library's week
        keep_versions=sorted(keep),
        full=True,  # also what crashed writers left, which no log names
        dry_run=dry_run,
        post_commithook_properties=HOOKS,
    )

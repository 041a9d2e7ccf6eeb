"""From which logs the positions are, in a small Delta table beside those of the events."""

import msgspec
import pyarrow as pa
from deltalake import write_deltalake

from features.stores.delta.tables import HOOKS, Tables, reaching, rows_of
from features.stores.log_entries import numbered
from features.stores.ports import LogEntry

NAME = "_logs"  # no event has such a name
_SCHEMA = pa.schema([("entry", pa.string())])  # JSON: entries may get more fields
_decode = msgspec.json.Decoder(LogEntry).decode


class DeltaLogEntries:
    """Adds and lists the entries under a root."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def all(self) -> list[LogEntry]:
        """Every entry, in order."""
        table = self._tables.open(NAME)
        if table is None:
            return []
        rows = rows_of(table, "cannot read the entries about logs")
        return sorted((_decode(row["entry"]) for row in rows), key=lambda entry: entry.number)

    def add(self, entries: list[LogEntry]) -> None:
        """Add entries after those that are there."""
        new = numbered(entries, after=self.all())
        rows = pa.table([[msgspec.json.encode(e).decode() for e in new]], schema=_SCHEMA)
        table = self._tables.open(NAME) or self._tables.create(NAME, _SCHEMA, partition_by=[])
        with reaching("cannot add an entry about logs"):
            write_deltalake(table, rows, mode="append", post_commithook_properties=HOOKS)

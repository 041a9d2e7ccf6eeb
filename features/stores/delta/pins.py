"""The versions that have to stay readable, in a small Delta table beside those of the events.

So the pins are on the same storage as the tables, whichever it is.
"""

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from features.errors import StoreUnavailable, WriteConflict
from features.stores.delta.tables import HOOKS, Tables, reaching, rows_of
from features.stores.ports import Pin

NAME = "_pins"  # no event has such a name

_SCHEMA = pa.schema([("event", pa.string()), ("version", pa.int64()), ("name", pa.string())])


class DeltaPins:
    """Adds, removes and lists the pins under a root."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def add(self, pin: Pin) -> None:
        """Add a pin; adding it again changes nothing."""
        if pin in self.all():
            return
        row = pa.table([[pin.event], [pin.version], [pin.name]], schema=_SCHEMA)
        with reaching(f"cannot pin version {pin.version} of {pin.event}"):
            write_deltalake(self._table(), row, mode="append", post_commithook_properties=HOOKS)

    def remove(self, name: str) -> None:
        """Remove all pins of that name."""
        if all(pin.name != name for pin in self.all()):
            return
        quoted = name.replace("'", "''")
        try:
            with reaching(f"cannot remove the pins of {name}"):
                self._table().delete(f"name = '{quoted}'", post_commithook_properties=HOOKS)
        except WriteConflict as error:
            raise StoreUnavailable(f"{error}", hint="try again") from error

    def all(self) -> list[Pin]:
        """Every pin, once, by event, version and name."""
        table = self._tables.open(NAME)
        if table is None:
            return []
        pins = {Pin(**row) for row in rows_of(table, "cannot read the pins")}
        return sorted(pins, key=lambda p: (p.event, p.version, p.name))

    def _table(self) -> DeltaTable:
        table = self._tables.open(NAME)
        return table or self._tables.create(NAME, _SCHEMA, partition_by=[])

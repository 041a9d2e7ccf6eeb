"""The location of the Delta tables of the offline store, and the schema of an event's table.

`root` is a folder or a URL (`s3://`, `gs://`, `az://`); the options are delta-rs's own, given to
every call. They may hold secrets, so no message shows them.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import ColumnProperties, DeltaTable, PostCommitHookProperties, WriterProperties
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from features.definitions import EventType
from features.engine.columns import kinds
from features.errors import StoreUnavailable, WriteConflict
from features.stores.ports import META, EventBatch
from features.stores.schema_evolution import Stored, declared_types, stored_types
from infra.clock import DAY

if TYPE_CHECKING:
    import polars as pl

HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
"""We write the checkpoints ourselves. Logs are not deleted: a pinned version needs them."""

PRUNED_BY = ("event_time_us", "known_at_us")
"""Columns with statistics (minimum and maximum) in each file: reading a span of event time opens no
other files, and the newest `known_at_us` of a table is read from its log."""

_TYPES: Mapping[Stored, Any] = {"int": pa.int64(), "float": pa.float64(), "text": pa.string()}
_NAMES: Mapping[str, Stored] = {"long": "int", "double": "float", "string": "text"}
_DECLARED = "eventide.declared"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_LONGEST_SENTENCE = 300


class Tables:
    """Opens and creates the tables under one root."""

    def __init__(self, root: str, options: Mapping[str, str] | None = None) -> None:
        self.root = root.rstrip("/")
        self._options = dict(options or {})

    def open(self, name: str, *, version: int | None = None) -> DeltaTable | None:
        """A table as it is now, or as it was at a version; None if it was never created.

        Raises:
            StoreUnavailable: the storage does not respond.
        """
        at = "" if version is None else f" at version {version}"
        with reaching(f"cannot open {self.path(name)}{at}"):
            try:
                return _Table(self.path(name), version=version, storage_options=self._options)
            except TableNotFoundError:
                if version is None:
                    return None
                raise

    def create(
        self,
        name: str,
        schema: Any,
        *,
        partition_by: list[str],
        properties: Mapping[str, str] | None = None,
    ) -> DeltaTable:
        """A new table; the one that is there if another process was faster.

        Raises:
            StoreUnavailable: it cannot be created.
        """
        hint = "is there space, and permission to write? `offline_store` names the folder or URL"
        with reaching(f"cannot create {self.path(name)}", hint=hint):
            if "://" not in self.root:
                Path(self.root).mkdir(parents=True, exist_ok=True)
            return _Table.create(
                self.path(name),
                schema,
                mode="ignore",
                partition_by=partition_by,
                storage_options=self._options,
                configuration=dict(properties or {}),
                raise_if_key_not_exists=False,  # Delta does not know our properties
            )

    def path(self, name: str) -> str:
        """Folder or URL of a table."""
        return f"{self.root}/{name}"


def collected(rows: "pl.LazyFrame", what: str) -> "pl.DataFrame":
    """The rows of a scan; `what` is the failed action.

    The library's own reader opens files through Python from threads of Arrow, which may outlive the
    interpreter: of processes that ended just after it one in ten was aborted. It imports pandas.

    Raises:
        StoreUnavailable: the storage does not respond.
    """
    import polars as pl

    try:
        return rows.collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise StoreUnavailable(f"{what}: {sentence(error)}") from error


def rows_of(table: DeltaTable, what: str) -> list[dict[str, Any]]:
    """Every row of a small table; see `collected`."""
    import polars as pl

    return collected(pl.scan_delta(table), what).to_dicts()


class _Table(DeltaTable):
    """A table that names its files as the file system does.

    The library escapes the names of local files as in a URL (deltalake 1.6), and polars opens the
    files by these names: it found none in a folder with a blank or an umlaut.
    """

    def file_uris(self, *arguments: Any, **options: Any) -> list[str]:
        uris: list[str] = super().file_uris(*arguments, **options)
        return [unquote(u) for u in uris] if self.table_uri.startswith("file://") else uris


@contextmanager
def reaching(what: str, *, hint: str | None = None) -> Iterator[None]:
    """Turns the library's errors into ours.

    Raises:
        WriteConflict: another process committed first.
        StoreUnavailable: any other failure; `what` is the failed action.
    """
    try:
        yield
    except CommitFailedError as error:
        raise WriteConflict(f"{what}: {sentence(error)}") from error
    except (DeltaError, OSError) as error:
        raise StoreUnavailable(f"{what}: {sentence(error)}", hint=hint) from error


def sentence(error: Exception) -> str:
    """The library writes several lines, in colour: the chain of causes."""
    lines = (line.strip(" \t↳") for line in _COLOURS.sub("", str(error)).splitlines())
    return ": ".join(line for line in lines if line)[:_LONGEST_SENTENCE]


def schema_of(event: EventType) -> Any:
    """The Arrow schema of an event's table."""
    # Columns that files are pruned by come first: only the first 32 columns have statistics.
    fields = sorted(stored_types(event).items(), key=lambda f: f[0] != "event_time_us")
    return pa.schema(
        [
            ("event_date", pa.date32()),
            ("known_at_us", pa.int64()),
            ("ingest_time_us", pa.int64()),
            ("topic", pa.string()),
            ("partition", pa.int64()),
            ("offset", pa.int64()),
            *((name, _TYPES[stored]) for name, stored in fields),
        ]
    )


def event_columns(table: DeltaTable) -> dict[str, str]:
    """The columns of a table that are fields of the event, and their types."""
    own = {"event_date", "topic", *META}
    columns = {f.name: getattr(f.type, "type", str(f.type)) for f in table.schema().fields}
    return {name: _NAMES.get(kind, kind) for name, kind in columns.items() if name not in own}


def properties_of(event: EventType) -> dict[str, str]:
    """What an event's table remembers of its declaration."""
    return {_DECLARED: json.dumps(declared_types(event))}


def remembered_types(table: DeltaTable) -> dict[str, str]:
    """The `declared_types` that a table remembers; none if it is of 0.1."""
    types: dict[str, str] = json.loads(table.metadata().configuration.get(_DECLARED, "{}"))
    return types


def arrow_of(batch: EventBatch) -> Any:
    """The rows of a batch as they are written."""
    schema = schema_of(batch.event)
    columns = {name: batch.columns[name] for name in (*kinds(batch.event.record), *META)}
    times = pa.array(columns["event_time_us"], pa.int64())
    columns["event_date"] = pc.cast(pc.cast(pc.divide(times, DAY), pa.int32()), pa.date32())
    columns["topic"] = pa.array([batch.event.name]).take(pa.array([0] * len(batch), pa.int32()))
    return pa.table([_array_of(columns[f.name], f.type) for f in schema], schema=schema)


def _array_of(values: Any, type_: pa.DataType) -> Any:
    """A truth value is stored as 0 or 1; Arrow needs a cast to make it an integer."""
    try:
        return pa.array(values, type_)
    except pa.ArrowTypeError:
        return pc.cast(pa.array(values, pa.bool_()), type_)


def writer_of(event: EventType) -> WriterProperties:
    """How files are written, by ingest and by maintenance alike."""
    return WriterProperties(
        # ZSTD takes a quarter less space, but a fifth more CPU to write, and a quarter more to read
        # (of floats twice as much). SNAPPY is worse in space and in reading.
        compression="LZ4_RAW",
        column_properties={field.name: _column(field) for field in schema_of(event)},
    )


def _column(field: pa.Field) -> ColumnProperties:
    return ColumnProperties(
        # A dictionary pays for text that repeats. Of numbers and ids it costs a tenth of a commit's
        # CPU (of floats alone five times the rest) and a tenth of the space.
        dictionary_enabled=field.type == pa.string() and field.name != "event_id",
        # Times, offsets and small numbers: a tenth to a quarter less space, for no CPU.
        encoding="DELTA_BINARY_PACKED" if field.type == pa.int64() else None,
        # Every commit reads the statistics of all files of the table: of 27 columns that is
        # 20 ms for 1,000 files, of two a quarter of it.
        statistics_enabled="CHUNK" if field.name in PRUNED_BY else "NONE",
    )

"""The online store in LMDB: a file that many processes map, one writing transaction at a time.

Values, positions and seen ids change in one transaction, so a reader never sees one without the
others. The file is not forced to disk at each commit. A killed process loses nothing; a power cut
may lose or damage the file. It can always be rebuilt from the offline store, or from the topics.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import lmdb
import msgspec

from features.engine.deduplication import SeenIds
from features.engine.view_rows import merge_rows
from features.errors import StoreDamaged, StoreUnavailable
from features.stores.guards import adopted_ids, check_positions, check_schema_ids
from features.stores.lmdb_keys import (
    SEEN,
    entity_of,
    number_bytes,
    number_of,
    origin_of,
    partition_key,
    partition_of,
    seen_key,
    value_keys,
    value_prefix,
)
from features.stores.lmdb_staging import Items, stage, staged_items
from features.stores.ports import DeclaredView, OnlineContent, OnlineUpdate, ValuePage
from features.stores.seen_ids import pack_seen, unpack_seen
from infra.kafka.logs import Origins
from infra.kafka.partitions import Partition, Positions
from infra.process.timing import Deadline

MAP_BYTES = 1 << 30  # address space, not disk: the file grows as it is filled
MAX_MAP_BYTES = 1 << 40
MAX_READERS = 512
# A reader that was killed inside a read keeps its slot: until the slot is freed, no page that was
# freed since is used again, and the file grows with each write.
FREE_SLOTS_EVERY_S = 1.0

_POSITION, _NEWEST, _SCHEMA, _DECLARED, _ORIGIN = b"p", b"n", b"m", b"d", b"o"
_FILES = ("lock.mdb", "data.mdb")
_DAMAGES = (
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
)


class LmdbOnlineStore:
    """The online store in one LMDB file."""

    def __init__(
        self,
        folder: str,
        *,
        readonly: bool = False,
        map_bytes: int = MAP_BYTES,
        max_map_bytes: int = MAX_MAP_BYTES,
        open_env: Callable[..., Any] = lmdb.open,
    ) -> None:
        """`open_env` opens the file; it takes the arguments of `lmdb.open`."""
        self._folder = Path(folder)
        self._readonly = readonly
        self._map_bytes, self._max_map_bytes = map_bytes, max_map_bytes
        self._open_env = open_env
        self._slots_due = Deadline()
        self._slots_due.set(0)
        self._env = self._open()
        self._file = self._current_file()

    def apply(self, update: OnlineUpdate) -> None:
        """Grows the map when it is full. A full disk is StoreUnavailable."""
        self._free_slots_of_dead_readers()
        while True:
            try:
                with self._transaction(write=True) as txn:
                    stored = _stored_positions(txn, update.starts)
                    check_positions(stored, update.starts, store="online")
                    _write(txn, update)
            except lmdb.MapFullError as error:
                self._grow(error)
            else:
                return

    def get(self, wanted: Sequence[tuple[str, Sequence[bytes]]]) -> list[list[bytes | None]]:
        with self._transaction() as txn:
            return [_get(txn, view, entities) for view, entities in wanted]

    def positions(self) -> Positions:
        with self._transaction() as txn:
            return {partition_of(key): number_of(value) for key, value in _items(txn, _POSITION)}

    def origins(self) -> Origins:
        with self._transaction() as txn:
            return {partition_of(key): origin_of(value) for key, value in _items(txn, _ORIGIN)}

    def set_origins(self, origins: Origins) -> None:
        with self._transaction(write=True) as txn:
            _put_origins(txn, origins)

    def newest_known_at_us(self) -> Mapping[Partition, int]:
        with self._transaction() as txn:
            return {partition_of(key): number_of(value) for key, value in _items(txn, _NEWEST)}

    def seen_ids(self, partition: Partition) -> list[SeenIds]:
        prefix = SEEN + partition_key(partition)
        with self._transaction() as txn:
            slices = [(key[len(prefix) :], bytes(v)) for key, v in _items(txn, prefix)]
        return [unpack_seen(partition, number_of(key), value) for key, value in slices]

    def schema_ids(self) -> Mapping[str, int]:
        with self._transaction() as txn:
            return _stored_schemas(txn)

    def declarations(self) -> Mapping[str, DeclaredView]:
        with self._transaction() as txn:
            return {
                key[1:].decode(): msgspec.msgpack.decode(value, type=DeclaredView)
                for key, value in _items(txn, _DECLARED)
            }

    def declare(
        self, declared: Mapping[str, DeclaredView], *, replacing: Mapping[str, int]
    ) -> None:
        while True:
            try:
                with self._transaction(write=True) as txn:
                    stored = _stored_schemas(txn)
                    check_schema_ids(stored, replacing)
                    for view, declaration in declared.items():
                        txn.put(_DECLARED + view.encode(), msgspec.msgpack.encode(declaration))
                    _write_schemas(txn, adopted_ids(stored, declared))
            except lmdb.MapFullError as error:
                self._grow(error)
            else:
                return

    def entities(self, view: str) -> int:
        with self._transaction() as txn:
            return sum(1 for _ in _items(txn, value_prefix(view)))

    def page(self, view: str, *, after: bytes, limit: int) -> ValuePage:
        """The values are in the order of their keys."""
        prefix = value_prefix(view)
        with self._transaction() as txn:
            items = list(islice(_items(txn, prefix, start=prefix + after), limit + 1))
        following = items[limit][0].removeprefix(prefix) if len(items) > limit else b""
        return ValuePage(
            values=[value for _, value in items[:limit]],
            entities=[entity_of(key.removeprefix(prefix)) for key, _ in items[:limit]],
            after=following,
        )

    def clear(self) -> None:
        with self._transaction(write=True) as txn:
            self._drop(txn)

    def replace(self, content: OnlineContent) -> None:
        """The new content is staged in an unnamed file, which disappears with this process."""
        with self._staging_file() as staged:
            for items in _content_items(content):
                stage(staged, items)
            try:
                self._replace(staged)
            except StoreDamaged:
                self.discard(self._folder)
                self._replace(staged)

    @staticmethod
    def discard(folder: str | Path) -> None:
        """Delete a damaged store. Processes that have it open notice at their next transaction."""
        for name in _FILES:
            (Path(folder) / name).unlink(missing_ok=True)

    def close(self) -> None:
        self._env.close()

    @contextmanager
    def _staging_file(self) -> Iterator[IO[bytes]]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=self._folder) as file:
                yield file
        except OSError as error:
            raise StoreUnavailable(
                f"cannot write a new online store in {self._folder}: {error}"
            ) from error

    def _replace(self, staged: IO[bytes]) -> None:
        while True:
            try:
                with self._transaction(write=True) as txn:
                    self._drop(txn)
                    for items in staged_items(staged):
                        txn.cursor().putmulti(items)
            except lmdb.MapFullError as error:
                self._grow(error)
            else:
                return

    def _drop(self, txn: Any) -> None:
        """Delete everything but the origins: they say what later positions mean."""
        origins = {partition_of(key): origin_of(value) for key, value in _items(txn, _ORIGIN)}
        txn.drop(self._env.open_db(None, txn=txn), delete=False)
        _put_origins(txn, origins)

    def _open(self) -> Any:
        if self._readonly and not (self._folder / "data.mdb").exists():
            raise StoreUnavailable(
                f"there is no online store in {self._folder}",
                hint="ingest creates it: `eventide up`, or `eventide ingest`",
            )
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Readers lock too, so that the pages that they read are not reused.
            return self._open_env(
                str(self._folder),
                map_size=self._map_bytes,
                readonly=self._readonly,
                sync=False,
                metasync=False,
                max_readers=MAX_READERS,
                readahead=False,
            )
        except _DAMAGES as error:
            raise self._damaged(error) from error
        except (lmdb.Error, OSError) as error:
            raise StoreUnavailable(
                f"cannot open the online store {self._folder}: {error}"
            ) from error

    def _current_file(self) -> tuple[int, int] | None:
        """Device and inode of the file that is there now; None without one."""
        try:
            status = os.stat(self._folder / _FILES[-1])
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def _open_if_replaced(self) -> None:
        """Reopen a file that was replaced: a deleted file stays readable and writable."""
        if self._file is not None and self._file == self._current_file():
            return
        self._file = None
        self._env.close()
        self._env = self._open()
        self._file = self._current_file()

    def _damaged(self, error: lmdb.Error) -> StoreDamaged:
        return StoreDamaged(
            f"the online store {self._folder} is damaged: {error}",
            hint="rebuild it from the offline store: `eventide features rebuild`",
        )

    @contextmanager
    def _transaction(self, *, write: bool = False) -> Iterator[Any]:
        """A transaction on the current file. Errors of the client become ours."""
        self._open_if_replaced()
        try:
            try:
                txn = self._env.begin(write=write)
            except lmdb.MapResizedError:
                self._env.set_mapsize(0)  # another process made it larger: take its size
                txn = self._env.begin(write=write)
            with txn:
                yield txn
        except lmdb.MapFullError:
            raise
        except _DAMAGES as error:
            raise self._damaged(error) from error
        except (lmdb.Error, OSError) as error:
            raise StoreUnavailable(
                f"the online store {self._folder} failed: {error}",
                hint="is the disk full? the store can be rebuilt: `eventide features rebuild`",
            ) from error

    def _free_slots_of_dead_readers(self) -> None:
        if self._slots_due.has_passed:
            self._slots_due.set(FREE_SLOTS_EVERY_S)
            self._env.reader_check()

    def _grow(self, error: lmdb.Error) -> None:
        size = self._env.info()["map_size"] * 2
        if size > self._max_map_bytes:
            raise StoreUnavailable(
                f"the online store {self._folder} has reached {self._max_map_bytes} bytes"
            ) from error
        self._env.set_mapsize(size)


def _stored_positions(txn: Any, partitions: Iterable[Partition]) -> Positions:
    stored = {p: txn.get(_POSITION + partition_key(p)) for p in partitions}
    return {p: number_of(offset) for p, offset in stored.items() if offset is not None}


def _write(txn: Any, update: OnlineUpdate) -> None:
    for change in update.changes:
        view = change.state.name
        merge_rows(
            change,
            update.compacted_through_us,
            get=partial(_get, txn, view),
            put=partial(_put, txn, view),
        )
    for seen in update.seen:
        txn.put(seen_key(seen.partition, seen.first_offset), pack_seen(seen))
    for partition, first_offset in update.forget:
        txn.delete(seen_key(partition, first_offset))
    _write_schemas(txn, update.schemas)
    for partition, end in update.ends.items():
        txn.put(_POSITION + partition_key(partition), number_bytes(end))
    for partition, newest_us in update.newest_us.items():
        txn.put(_NEWEST + partition_key(partition), number_bytes(newest_us))


def _stored_schemas(txn: Any) -> dict[str, int]:
    return {key[1:].decode(): number_of(value) for key, value in _items(txn, _SCHEMA)}


def _write_schemas(txn: Any, schemas: Mapping[str, int]) -> None:
    wanted = dict(_schema_items(schemas))
    stored = dict(_items(txn, _SCHEMA))
    if stored == wanted:
        return
    for key in stored.keys() - wanted.keys():
        txn.delete(key)
    for key, schema_id in wanted.items():
        txn.put(key, schema_id)


def _content_items(content: OnlineContent) -> Iterator[Items]:
    """All keys and values of a content, in the form that `_write` writes."""
    for view, values in content.values:
        entities, packed = zip(*values, strict=True)
        yield [*zip(value_keys(view, entities), packed, strict=True)]
    for seen in content.seen:
        yield [(seen_key(seen.partition, seen.first_offset), pack_seen(seen))]
    yield _schema_items(content.schemas)
    yield [
        (_POSITION + partition_key(p), number_bytes(offset))
        for p, offset in content.positions.items()
    ]
    yield [
        (_ORIGIN + partition_key(p), msgspec.msgpack.encode(o)) for p, o in content.origins.items()
    ]


def _put_origins(txn: Any, origins: Origins) -> None:
    for partition, origin in origins.items():
        txn.put(_ORIGIN + partition_key(partition), msgspec.msgpack.encode(origin))


def _schema_items(schemas: Mapping[str, int]) -> Items:
    return [
        (_SCHEMA + view.encode(), number_bytes(schema_id)) for view, schema_id in schemas.items()
    ]


def _get(txn: Any, view: str, entities: Sequence[bytes]) -> list[bytes | None]:
    keys = value_keys(view, entities)
    values = dict(txn.cursor().getmulti(keys))
    return [*map(values.get, keys)]


def _put(txn: Any, view: str, entities: Sequence[bytes], values: Sequence[bytes]) -> None:
    txn.cursor().putmulti(zip(value_keys(view, entities), values, strict=True))


def _items(txn: Any, prefix: bytes, *, start: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
    cursor = txn.cursor()
    if not cursor.set_range(start or prefix):
        return
    for key, value in cursor:
        if not key.startswith(prefix):
            return
        yield key, value

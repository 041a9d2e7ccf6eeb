"""The online store in LMDB: a file that many processes map, one writing transaction at a time.

Values, positions and seen ids change in one transaction, so a reader never sees one without the
others. The file is not forced to disk at each commit: a killed process loses nothing, a power cut
may; the store can always be built anew from the topics.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import lmdb

from features.adapters.seen_ids import pack_seen, unpack_seen
from features.errors import PositionMoved, StoreUnavailable
from features.ports import OnlineUpdate, SeenIds
from features.state import merge_rows
from infra.kafka.partitions import Partition, Positions

MAP_BYTES = 1 << 30  # address space, not disk: the file grows as it is filled
MAX_MAP_BYTES = 1 << 40
MAX_KEY = 500  # LMDB takes 511 bytes
MAX_READERS = 512

_VALUE, _POSITION, _NEWEST, _SEEN, _SCHEMA = b"v", b"p", b"n", b"s", b"m"


class LmdbOnlineStore:
    """See `features.ports.OnlineStore`."""

    def __init__(self, folder: str, *, readonly: bool = False, map_bytes: int = MAP_BYTES) -> None:
        self._folder = Path(folder)
        self._readonly = readonly
        self._env: Any = None
        self._map_bytes = map_bytes
        self._env = self._open()

    def apply(self, update: OnlineUpdate) -> None:
        """See the port. The map grows when it is full; a full disk is StoreUnavailable."""
        while True:
            try:
                with self._transaction(write=True) as txn:
                    _check_positions(txn, update.starts)
                    _write(txn, update)
            except lmdb.MapFullError as error:
                self._grow(error)
            else:
                return

    def get(self, wanted: Sequence[tuple[str, Sequence[bytes]]]) -> list[list[bytes | None]]:
        """See the port."""
        with self._transaction() as txn:
            return [
                [txn.get(prefix + _short(e)) for e in entities]
                for prefix, entities in ((_prefix(view), found) for view, found in wanted)
            ]

    def progress(self) -> Positions:
        """See the port."""
        with self._transaction() as txn:
            return {_partition(key): _number(value) for key, value in _items(txn, _POSITION)}

    def newest_known_us(self) -> Mapping[Partition, int]:
        """See the port."""
        with self._transaction() as txn:
            return {_partition(key): _number(value) for key, value in _items(txn, _NEWEST)}

    def seen(self, partition: Partition) -> list[SeenIds]:
        """See the port."""
        prefix = _SEEN + _name(partition)
        with self._transaction() as txn:
            slices = [(key[len(prefix) :], bytes(v)) for key, v in _items(txn, prefix)]
        return [unpack_seen(partition, _number(key), value) for key, value in slices]

    def schemas(self) -> Mapping[str, int]:
        """See the port."""
        with self._transaction() as txn:
            return {key[1:].decode(): _number(value) for key, value in _items(txn, _SCHEMA)}

    def entities(self, view: str) -> int:
        """See the port."""
        with self._transaction() as txn:
            return sum(1 for _ in _items(txn, _prefix(view)))

    def clear(self) -> None:
        """See the port."""
        with self._transaction(write=True) as txn:
            txn.drop(self._env.open_db(None, txn=txn), delete=False)

    def close(self) -> None:
        """See the port."""
        self._env.close()

    def _open(self) -> Any:
        if self._readonly and not (self._folder / "data.mdb").exists():
            raise StoreUnavailable(
                f"there is no online store in {self._folder}",
                hint="ingest makes it: `eventide up`, or `eventide ingest`",
            )
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # `lock` stays on for readers: it keeps the pages that they read from being reused.
            return lmdb.open(
                str(self._folder),
                map_size=self._map_bytes,
                readonly=self._readonly,
                sync=False,
                metasync=False,
                max_readers=MAX_READERS,
                readahead=False,
            )
        except (lmdb.Error, OSError) as error:
            raise StoreUnavailable(
                f"cannot open the online store {self._folder}: {error}"
            ) from error

    @contextmanager
    def _transaction(self, *, write: bool = False) -> Iterator[Any]:
        """A transaction of the store as it is now; the client's errors become ours."""
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
        except (lmdb.Error, OSError) as error:
            raise StoreUnavailable(
                f"the online store {self._folder} failed: {error}",
                hint="is the disk full? the store can be built anew: `eventide features rebuild`",
            ) from error

    def _grow(self, error: lmdb.Error) -> None:
        size = self._env.info()["map_size"] * 2
        if size > MAX_MAP_BYTES:
            raise StoreUnavailable(
                f"the online store {self._folder} has reached {MAX_MAP_BYTES} bytes"
            ) from error
        self._env.set_mapsize(size)


def _check_positions(txn: Any, starts: Positions) -> None:
    for partition, start in starts.items():
        stored = txn.get(_POSITION + _name(partition))
        found = 0 if stored is None else _number(stored)
        if found != start:
            raise PositionMoved(
                f"the online store stands at {found} of {partition.topic}-{partition.number},"
                f" not at {start}: another process writes it",
                hint="each partition has one writer; is a second group of ingest running?",
            )


def _write(txn: Any, update: OnlineUpdate) -> None:
    for change in update.changes:
        prefix = _prefix(change.state.name)
        merge_rows(change, update.settled_to_us, get=_getter(txn, prefix), put=_putter(txn, prefix))
    for seen in update.seen:
        txn.put(_SEEN + _name(seen.partition) + _bytes(seen.first_offset), pack_seen(seen))
    for partition, first_offset in update.forget:
        txn.delete(_SEEN + _name(partition) + _bytes(first_offset))
    for view, schema_id in update.schemas.items():
        txn.put(_SCHEMA + view.encode(), _bytes(schema_id), dupdata=False)
    for partition, end in update.ends.items():
        txn.put(_POSITION + _name(partition), _bytes(end))
    for partition, newest_us in update.newest_us.items():
        txn.put(_NEWEST + _name(partition), _bytes(newest_us))


def _getter(txn: Any, prefix: bytes) -> Callable[[bytes], bytes | None]:
    return lambda entity: txn.get(prefix + _short(entity))


def _putter(txn: Any, prefix: bytes) -> Callable[[bytes, bytes], Any]:
    return lambda entity, value: txn.put(prefix + _short(entity), value)


def _items(txn: Any, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    cursor = txn.cursor()
    if not cursor.set_range(prefix):
        return
    for key, value in cursor:
        if not key.startswith(prefix):
            return
        yield key, value


def _prefix(view: str) -> bytes:
    return _VALUE + blake2b(view.encode(), digest_size=6).digest()


def _short(entity: bytes) -> bytes:
    """The entity as part of a key; a very long one by its digest."""
    if len(entity) <= MAX_KEY:
        return b"=" + entity
    return b"#" + blake2b(entity, digest_size=32).digest()


def _name(partition: Partition) -> bytes:
    return partition.topic.encode() + b"\0" + partition.number.to_bytes(4, "big")


def _partition(key: bytes) -> Partition:
    topic, number = key[1:-5], key[-4:]
    return Partition(topic.decode(), int.from_bytes(number, "big"))


def _bytes(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _number(value: bytes) -> int:
    return int.from_bytes(value, "big")

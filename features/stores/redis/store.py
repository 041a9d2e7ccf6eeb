"""The online store in Redis or Valkey, for many machines: one server, or a cluster.

A value is one string, and an update appends to it. So two writers that own different partitions
may update the same entity.

On one server an update is one script, which is atomic. In a cluster no script reaches every shard:

1. The first shard takes its part of the update and a redo record with the parts of all others. From
   here on the update is decided.
2. Each other shard takes its part once, by its own copy of the positions.
3. The redo record is deleted.

A writer that loads the positions first finishes the updates that a crashed writer had decided.

Keys carry a generation. `clear` begins the next one in one step, and then deletes the old keys.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha1
from itertools import chain, compress, groupby, islice
from typing import Any

import msgspec
import structlog

from features.engine.deduplication import SeenIds
from features.engine.value_format import ViewSchemaMismatch
from features.errors import OffsetConflict, StalePositions, StoreDamaged, StoreUnavailable
from features.stores.guards import store_replaced
from features.stores.ports import DeclaredView, OnlineContent, OnlineUpdate, ValuePage
from features.stores.redis.content import put_content
from features.stores.redis.evictions import EvictionCheck
from features.stores.redis.names import (
    FIRST_GENERATION,
    NEWEST,
    PREFIX,
    Names,
    is_before,
    is_newest,
    partition_name,
    partition_of,
)
from features.stores.redis.scripts import DECLARE, FINISH, SWAP
from features.stores.redis.servers import Command, Servers, connect, script
from features.stores.redis.update import GrownValue, RedoRecord, ShardedUpdate
from features.stores.seen_ids import unpack_seen
from infra.kafka.logs import LogOrigin, Origins
from infra.kafka.partitions import Partition, Positions

log = structlog.get_logger()

_encode_origin = msgspec.msgpack.Encoder().encode
_decode_origin = msgspec.msgpack.Decoder(LogOrigin).decode
COMPACTION_TRIES = 3  # another writer may append to a value while it is being compacted
_UNLINKED = 500  # keys a round trip


class RedisOnlineStore:
    """The online store on Redis or Valkey. Connects at the first command.

    `servers`: by default those of `url`.
    """

    def __init__(self, url: str, *, readonly: bool = False, servers: Servers | None = None) -> None:
        self._servers = servers or connect(url)
        self._names = Names(tags=self._servers.tags)
        self._readonly = readonly
        self._evictions = EvictionCheck(self._servers, writes=not readonly)
        self._rounds: dict[str, Iterator[tuple[bytes, bytes]]] = {}

    def apply(self, update: OnlineUpdate) -> None:
        """After a timeout the server may still apply the update."""
        self._evictions.check(self._names)
        sharded = ShardedUpdate(update, self._names)
        replies = self._servers.execute([sharded.commit()])
        _raise_unless_decided(replies[0], update)
        if sharded.record:
            replies += self._complete(sharded.record)
        grown = sharded.grown([indexes for _, indexes in replies])
        self._compact(grown, update.compacted_through_us)

    def get(self, wanted: Sequence[tuple[str, Sequence[bytes]]]) -> list[list[bytes | None]]:
        """In a cluster the values of one shard are of one moment. Other shards may be an update
        ahead, but each holds everything below `positions`."""
        self._evictions.check(self._names)
        places: list[list[int]] = []

        def reads(names: Names) -> list[Command]:
            places[:] = [[] for _ in names.tags]
            keys: list[list[bytes]] = [[] for _ in names.tags]
            place = 0
            for view, entities in wanted:
                prefixes = names.values(view)
                for entity in entities:
                    shard = names.shard_of(entity)
                    keys[shard].append(prefixes[shard] + entity)
                    places[shard].append(place)
                    place += 1
            return [("MGET", *of_shard) for of_shard in keys if of_shard]

        replies = self._execute(reads)
        flat: list[bytes | None] = [None] * sum(len(of_shard) for of_shard in places)
        for of_shard, values in zip(filter(None, places), replies, strict=True):
            for place, value in zip(of_shard, values, strict=True):
                flat[place] = value
        rest = iter(flat)
        return [[next(rest) for _ in entities] for _, entities in wanted]

    def positions(self) -> Positions:
        """The smallest of all shards. A writer first finishes updates that were decided."""
        if not self._readonly:
            self._evictions.check(self._names)
            self._finish_pending()
        return {
            partition_of(name): least
            for name, least in self._least_of_shards().items()
            if not is_newest(name)
        }

    def origins(self) -> Origins:
        fields = self._servers.execute([("HGETALL", self._names.origins)])[0]
        return {partition_of(name): _decode_origin(value) for name, value in fields.items()}

    def set_origins(self, origins: Origins) -> None:
        self._servers.execute(
            [
                ("HSET", self._names.origins, partition_name(p), _encode_origin(origin))
                for p, origin in origins.items()
            ]
        )

    def newest_known_at_us(self) -> Mapping[Partition, int]:
        """The smallest of all shards."""
        return {
            partition_of(name.removeprefix(NEWEST)): least
            for name, least in self._least_of_shards().items()
            if is_newest(name)
        }

    def seen_ids(self, partition: Partition) -> list[SeenIds]:
        fields = self._execute(lambda names: [("HGETALL", names.seen(partition))])[0]
        slices = sorted((int(offset), value) for offset, value in fields.items())
        return [unpack_seen(partition, offset, value) for offset, value in slices]

    def schema_ids(self) -> Mapping[str, int]:
        fields = self._execute(lambda names: [("HGETALL", names.schemas)])[0]
        return {view.decode(): int(schema_id) for view, schema_id in fields.items()}

    def declarations(self) -> Mapping[str, DeclaredView]:
        fields = self._execute(lambda names: [("HGETALL", names.declarations)])[0]
        return {
            view.decode(): msgspec.msgpack.decode(content, type=DeclaredView)
            for view, content in fields.items()
        }

    def declare(
        self, declared: Mapping[str, DeclaredView], *, replacing: Mapping[str, int]
    ) -> None:
        self._evictions.check(self._names)
        arguments = [
            part
            for view, declaration in declared.items()
            for part in (
                *(view, str(replacing.get(view, "")), str(declaration.schema_id)),
                msgspec.msgpack.encode(declaration),
            )
        ]
        names = self._names
        keys = (names.counter, names.schemas, names.declared, names.declarations)
        reply = self._servers.execute([script(DECLARE, keys, names.generation, *arguments)])[0]
        if reply[0] != b"done":
            raise store_replaced()

    def entities(self, view: str) -> int:
        """Scans all keys of the servers."""
        self._execute(lambda _: [])
        return len({key for key, _ in self._keys_of(view)})

    def page(self, view: str, *, after: bytes, limit: int) -> ValuePage:
        """`after` only says whether the round continues: this object remembers the place."""
        self._execute(lambda _: [])
        keys = self._rounds.pop(view, None) if after else None
        if keys is None:
            keys = self._keys_of(view)
        page = list(islice(keys, limit))
        values = self._servers.execute([("GET", key) for key, _ in page])
        following = next(keys, None)
        if following is not None:
            self._rounds[view] = chain((following,), keys)
        present = [(v, e) for v, (_, e) in zip(values, page, strict=True) if v is not None]
        return ValuePage(
            values=[value for value, _ in present],
            entities=[entity for _, entity in present],
            after=b"" if following is None else b"more",
        )

    def _keys_of(self, view: str) -> Iterator[tuple[bytes, bytes]]:
        """The keys of the values of a view, each with its entity.

        A pattern alone would also find values of other views, whose entity has this view's name.
        """
        prefixes = self._names.values(view)
        for key in self._servers.keys(self._names.all_values(view)):
            for prefix in prefixes:
                if key.startswith(prefix):
                    yield key, key.removeprefix(prefix)
                    break

    def clear(self) -> None:
        """The store is empty at once. Deleting the old keys takes a while; after an interruption
        the next `clear` deletes the rest."""
        generation = self._servers.execute([("INCR", self._names.counter)])[0]
        self._names = replace(self._names, generation=b"%d" % generation)
        self._evictions.forgive(self._names)
        self._delete_before(generation)

    def replace(self, content: OnlineContent) -> None:
        with suppress(StoreDamaged):  # what was evicted is replaced
            self._evictions.check(self._names)
        self._execute(lambda _: [])
        self._names = put_content(content, self._names, self._servers)
        self._evictions.forgive(self._names)
        self.set_origins(content.origins)
        self._delete_before(int(self._names.generation))

    def _delete_before(self, generation: int) -> None:
        old = [key for key in self._servers.keys(PREFIX + b"*") if is_before(key, generation)]
        for start in range(0, len(old), _UNLINKED):
            self._servers.execute([("UNLINK", key) for key in old[start : start + _UNLINKED]])

    def close(self) -> None:
        self._servers.close()

    def _least_of_shards(self) -> dict[bytes, int]:
        """The smallest number of all shards in each field of their positions."""
        hashes = self._execute(lambda names: [("HGETALL", key) for key in names.positions])
        shared = set(hashes[0]).intersection(*hashes[1:])
        return {name: min(int(fields[name]) for fields in hashes) for name in shared}

    def _execute(self, commands: Callable[[Names], list[Command]]) -> list[Any]:
        """Replies of one generation: repeats the commands if the store was cleared in between."""
        while True:
            names = self._names
            # The counter is read last, so that the replies before it are of the current generation.
            *replies, current = self._servers.execute([*commands(names), ("GET", names.counter)])
            generation = current or FIRST_GENERATION
            if generation == names.generation:
                return replies
            self._names = replace(names, generation=generation)

    def _complete(self, record: RedoRecord) -> list[Any]:
        """Apply a decided update to the other shards, once, and delete its redo record."""
        replies = self._servers.execute([part.follow() for part in record.parts])
        for verdict, *details in replies:
            if verdict != b"done":
                raise _diverged(*details)
        names = self._names
        self._servers.execute(
            [script(FINISH, (names.redo, names.pending), record.id, *record.partitions)]
        )
        return replies

    def _finish_pending(self) -> None:
        if len(self._names.tags) == 1:
            return
        for packed in self._execute(lambda names: [("HVALS", names.redo)])[0]:
            record = msgspec.msgpack.decode(packed, type=RedoRecord)
            log.info("online_update_finished", partitions=record.partitions)
            self._complete(record)

    def _compact(self, grown: list[GrownValue], compacted_through_us: int) -> None:
        """Compact values that have grown, except those that other writers keep changing."""
        for _ in range(COMPACTION_TRIES):
            if not grown:
                return
            grown = self._compact_once(grown, compacted_through_us)

    def _compact_once(self, grown: list[GrownValue], compacted_through_us: int) -> list[GrownValue]:
        """Returns the values that other writers changed in between."""
        replies = self._servers.execute(
            [("MGET", *(g.key for g in of_shard)) for of_shard in _by_shard(grown)]
        )
        present = [
            replace(g, value=value)
            for g, value in zip(grown, chain(*replies), strict=True)
            if value is not None
        ]
        to_compact = _due(present)
        if not to_compact:
            return []
        compacted = _compacted(to_compact, compacted_through_us)
        shards = _by_shard(to_compact)
        changed = self._servers.execute([_swap(of_shard, compacted) for of_shard in shards])
        return [
            of_shard[i] for of_shard, indexes in zip(shards, changed, strict=True) for i in indexes
        ]


def _raise_unless_decided(reply: Sequence[Any], update: OnlineUpdate) -> None:
    verdict, *details = reply
    if verdict == b"done":
        return
    if verdict == b"other":
        raise ViewSchemaMismatch(details[0].decode())
    if verdict == b"moved":
        partition, actual = partition_of(details[0]), int(details[1])
        raise OffsetConflict(
            partition, expected=update.starts[partition], actual=actual, store="online"
        )
    if verdict == b"emptied":
        raise store_replaced()
    raise StalePositions(
        f"an update of {details[0].decode()} was decided but not finished by its writer"
    )


def _diverged(name: bytes, offset: bytes) -> StoreUnavailable:
    return StoreUnavailable(
        f"a shard of the online store has the position {offset.decode()} for {name.decode()},"
        " unlike the others: a server has lost writes that it had acknowledged",
        hint="rebuild it: `eventide features rebuild`",
    )


def _by_shard(grown: Sequence[GrownValue]) -> list[list[GrownValue]]:
    return [list(of_shard) for _, of_shard in groupby(grown, lambda g: g.shard)]


def _by_view(values: Sequence[GrownValue]) -> Iterable[list[GrownValue]]:
    views: dict[str, list[GrownValue]] = {}
    for g in values:
        views.setdefault(g.state.name, []).append(g)
    return views.values()


def _due(values: Sequence[GrownValue]) -> list[GrownValue]:
    """Those that are due for compaction, shard after shard."""
    due = [
        g
        for of_view in _by_view(values)
        for g in compress(
            of_view,
            of_view[0].state.are_due([g.value for g in of_view], [g.entity for g in of_view]),
        )
    ]
    return sorted(due, key=lambda g: g.shard)


def _compacted(values: Sequence[GrownValue], compacted_through_us: int) -> dict[bytes, bytes]:
    """The compacted values by their keys, computed view by view."""
    return {
        g.key: value
        for of_view in _by_view(values)
        for g, value in zip(
            of_view,
            of_view[0].state.compact(
                [g.value for g in of_view], [g.entity for g in of_view], compacted_through_us
            ),
            strict=True,
        )
    }


def _swap(grown: Sequence[GrownValue], compacted: Mapping[bytes, bytes]) -> Command:
    """Replaces values by their compacted form, unless they have changed."""
    arguments: list[bytes | str] = []
    for g in grown:
        arguments += [sha1(g.value, usedforsecurity=False).hexdigest(), compacted[g.key]]
    return script(SWAP, [g.key for g in grown], *arguments)

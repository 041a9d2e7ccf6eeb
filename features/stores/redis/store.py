"""The online store in Redis or Valkey, for many machines: one server, or a cluster.

A value is one string, updated by appending to it, so updates of writers that own different
partitions may meet in one entity. On one server an update is one script, all or nothing. In a
cluster no script reaches every shard: the first shard takes its part together with a record of all
the others, and that decides the update; the others follow, each once, by their own copy of the
positions; then the record goes. Who reads the positions in order to write finishes what a dead
writer had decided.

Keys carry a generation. `clear` begins the next one in one step, and deletes the old keys after it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha1
from itertools import chain, groupby, islice
from typing import Any

import msgspec
import structlog

from features.engine.deduplication import SeenIds
from features.engine.value_format import ViewSchemaMismatch
from features.errors import OffsetConflict, StoreUnavailable
from features.stores.ports import OnlineContent, OnlineUpdate, Page
from features.stores.redis.content import put_content
from features.stores.redis.names import (
    FIRST_GENERATION,
    NEWEST,
    PREFIX,
    Names,
    is_before,
    is_newest,
    partition_of,
)
from features.stores.redis.scripts import FINISH, FOLD
from features.stores.redis.servers import Command, script, servers
from features.stores.redis.update import Grown, Record, Update
from features.stores.seen_ids import unpack_seen
from infra.kafka.partitions import Partition, Positions

log = structlog.get_logger()

FOLD_TRIES = 3  # another writer may append to a value while it is being folded
_UNLINKED = 500  # keys a round trip


class RedisOnlineStore:
    """See `features.stores.ports.OnlineStore`. Connects when it is first asked."""

    def __init__(self, url: str, *, readonly: bool = False) -> None:
        self._servers = servers(url)
        self._names = Names(tags=self._servers.tags)
        self._readonly = readonly
        self._checked = False
        self._rounds: dict[str, Iterator[bytes]] = {}

    def apply(self, update: OnlineUpdate) -> None:
        """See the port. After a time-out the server may still carry it out."""
        self._check_servers()
        decided = Update(update, self._names)
        first = self._servers.ask([decided.commit()])
        _raise_unless_decided(first[0], update)
        grown = [*first, *self._complete(decided.record)] if decided.record else first
        self._fold(decided.grown([found for _, found in grown]), update.compacted_through_us)

    def get(self, wanted: Sequence[tuple[str, Sequence[bytes]]]) -> list[list[bytes | None]]:
        """See the port. In a cluster a moment is that of a shard: other shards may be an update
        further, but each holds what lies below `positions`."""
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
            return [("MGET", *found) for found in keys if found]

        answers = self._ask(reads)
        flat: list[bytes | None] = [None] * sum(len(found) for found in places)
        for at, values in zip(filter(None, places), answers, strict=True):
            for place, value in zip(at, values, strict=True):
                flat[place] = value
        rest = iter(flat)
        return [[next(rest) for _ in entities] for _, entities in wanted]

    def positions(self) -> Positions:
        """See the port: of all shards the least. A writer first finishes what was decided."""
        if not self._readonly:
            self._check_servers()
            self._finish_pending()
        return {
            partition_of(name): least
            for name, least in self._least_of_shards().items()
            if not is_newest(name)
        }

    def newest_known_at_us(self) -> Mapping[Partition, int]:
        """See the port: of all shards the least."""
        return {
            partition_of(name.removeprefix(NEWEST)): least
            for name, least in self._least_of_shards().items()
            if is_newest(name)
        }

    def seen_ids(self, partition: Partition) -> list[SeenIds]:
        """See the port."""
        found = self._ask(lambda names: [("HGETALL", names.seen(partition))])[0]
        slices = sorted((int(offset), value) for offset, value in found.items())
        return [unpack_seen(partition, offset, value) for offset, value in slices]

    def schema_ids(self) -> Mapping[str, int]:
        """See the port."""
        found = self._ask(lambda names: [("HGETALL", names.schemas)])[0]
        return {view.decode(): int(schema_id) for view, schema_id in found.items()}

    def entities(self, view: str) -> int:
        """See the port. Walks through all keys of the servers."""
        self._ask(lambda _: [])
        return len(set(self._servers.keys(self._names.all_values(view))))

    def page(self, view: str, *, after: bytes, limit: int) -> Page:
        """See the port. A round is this object's own: `after` only says whether it goes on."""
        self._ask(lambda _: [])
        keys = self._rounds.pop(view, None) if after else None
        if keys is None:
            keys = self._servers.keys(self._names.all_values(view))
        values = self._servers.ask([("GET", key) for key in islice(keys, limit)])
        following = next(keys, None)
        if following is not None:
            self._rounds[view] = chain((following,), keys)
        found = [value for value in values if value is not None]
        return Page(values=found, after=b"" if following is None else b"more")

    def clear(self) -> None:
        """See the port. The store is empty at once; deleting the old keys takes a while, and what
        an interruption leaves of them is deleted by the next `clear`."""
        generation = self._servers.ask([("INCR", self._names.counter)])[0]
        self._names = replace(self._names, generation=b"%d" % generation)
        self._delete_before(generation)

    def replace(self, content: OnlineContent) -> None:
        """See the port."""
        self._check_servers()
        self._ask(lambda _: [])
        self._names = put_content(content, self._names, self._servers)
        self._delete_before(int(self._names.generation))

    def _delete_before(self, generation: int) -> None:
        old = [key for key in self._servers.keys(PREFIX + b"*") if is_before(key, generation)]
        for start in range(0, len(old), _UNLINKED):
            self._servers.ask([("UNLINK", key) for key in old[start : start + _UNLINKED]])

    def close(self) -> None:
        """See the port."""
        self._servers.close()

    def _least_of_shards(self) -> dict[bytes, int]:
        """What each shard keeps of every partition."""
        found = self._ask(lambda names: [("HGETALL", key) for key in names.positions])
        shared = set(found[0]).intersection(*found[1:])
        return {name: min(int(f[name]) for f in found) for name in shared}

    def _ask(self, commands: Callable[[Names], list[Command]]) -> list[Any]:
        """Answers of one generation: when the store was cleared meanwhile, it is asked again."""
        while True:
            names = self._names
            # Last, so that what was answered before it belongs to a generation that still lasts.
            *answers, now = self._servers.ask([*commands(names), ("GET", names.counter)])
            generation = now or FIRST_GENERATION
            if generation == names.generation:
                return answers
            self._names = replace(names, generation=generation)

    def _check_servers(self) -> None:
        """Once, before the first write: no server may drop values when its memory is full."""
        if self._checked:
            return
        for found in self._servers.info():
            _check_upkeep(found)
        self._ask(lambda _: [])
        self._checked = True

    def _complete(self, record: Record) -> list[Any]:
        """Take a decided update to the other shards, once; then the record of it goes."""
        answers = self._servers.ask([part.follow() for part in record.parts])
        for verdict, *details in answers:
            if verdict != b"done":
                raise _astray(*details)
        names = self._names
        self._servers.ask(
            [script(FINISH, (names.redo, names.pending), record.id, *record.partitions)]
        )
        return answers

    def _finish_pending(self) -> None:
        if len(self._names.tags) == 1:
            return
        for packed in self._ask(lambda names: [("HVALS", names.redo)])[0]:
            record = msgspec.msgpack.decode(packed, type=Record)
            log.info("online_update_finished", partitions=record.partitions)
            self._complete(record)

    def _fold(self, grown: list[Grown], compacted_through_us: int) -> None:
        """Fold the values that are worth it; one that others keep changing waits for its turn."""
        for _ in range(FOLD_TRIES):
            if not grown:
                return
            grown = self._fold_once(grown, compacted_through_us)

    def _fold_once(self, grown: list[Grown], compacted_through_us: int) -> list[Grown]:
        found = self._servers.ask([("MGET", *(g.key for g in some)) for some in _by_shard(grown)])
        ripe = [
            replace(g, value=value)
            for g, value in zip(grown, chain(*found), strict=True)
            if value is not None and g.state.append(value, b"")[1]
        ]
        folded = _folded(ripe, compacted_through_us)
        shards = _by_shard(ripe)
        kept = self._servers.ask([_exchange(some, folded) for some in shards]) if shards else []
        return [some[i] for some, at in zip(shards, kept, strict=True) for i in at]


def _raise_unless_decided(answer: Sequence[Any], update: OnlineUpdate) -> None:
    verdict, *details = answer
    if verdict == b"done":
        return
    if verdict == b"other":
        raise ViewSchemaMismatch(details[0].decode())
    if verdict == b"moved":
        name, found = (detail.decode() for detail in details)
        raise OffsetConflict(
            f"the online store stands at {found} of {name}, not at"
            f" {update.starts[partition_of(details[0])]}: another process writes it",
            hint="each partition has one writer; is a second group of ingest running?",
        )
    raise OffsetConflict(
        "the online store was cleared by another process"
        if verdict == b"emptied"
        else f"an update of {details[0].decode()} was decided but not finished by its writer"
    )


def _astray(name: bytes, found: bytes) -> StoreUnavailable:
    return StoreUnavailable(
        f"a shard of the online store stands at {found.decode()} of {name.decode()}, which others"
        " do not: a server has lost what it had confirmed",
        hint="build it anew: `eventide features rebuild`",
    )


def _check_upkeep(info: Mapping[str, Any]) -> None:
    policy = info.get("maxmemory_policy", "noeviction")
    if info.get("maxmemory") and policy != "noeviction":
        raise StoreUnavailable(
            f"the server of the online store drops values when it is full ({policy})",
            hint="set `maxmemory-policy noeviction`: a full server then refuses writes",
        )
    if not info.get("aof_enabled", 1):
        log.warning(
            "online_store_not_durable",
            why="`appendonly` is off: a restart of the server takes it back, or empties it",
        )


def _by_shard(grown: Sequence[Grown]) -> list[list[Grown]]:
    return [list(some) for _, some in groupby(grown, lambda g: g.shard)]


def _folded(ripe: Sequence[Grown], compacted_through_us: int) -> dict[bytes, bytes]:
    """The folded values by their keys: one fold a view."""
    views: dict[str, list[Grown]] = {}
    for g in ripe:
        views.setdefault(g.state.name, []).append(g)
    return {
        g.key: value
        for some in views.values()
        for g, value in zip(
            some, some[0].state.compact([g.value for g in some], compacted_through_us), strict=True
        )
    }


def _exchange(some: Sequence[Grown], folded: Mapping[bytes, bytes]) -> Command:
    arguments: list[bytes | str] = []
    for g in some:
        arguments += [sha1(g.value, usedforsecurity=False).hexdigest(), folded[g.key]]
    return script(FOLD, [g.key for g in some], *arguments)

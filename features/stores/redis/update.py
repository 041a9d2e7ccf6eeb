"""An update of the online store, split into the arguments of each shard's script."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import msgspec

from features.engine.state import ViewState
from features.stores.ports import OnlineUpdate
from features.stores.redis.names import Names, partition_name
from features.stores.redis.scripts import COMMIT, FOLLOW
from features.stores.redis.servers import Command, script
from features.stores.seen_ids import pack_seen

_FIRST_BLOB = 2  # the head is the first argument


class PositionMove(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """From where to where a partition moves, and its newest emission. Numbers are text, since Lua
    has 53 bits for them."""

    name: str
    start: str
    stop: str
    newest: str | None = None


class ViewRowCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many of the values belong to a view. `empty`: the argument with an empty value. `size`:
    the bytes of a row."""

    name: str
    schema: str
    empty: int
    count: int
    size: int


class ShardUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """The part of an update that a shard other than the first one takes."""

    keys: list[bytes]
    arguments: list[bytes]

    def follow(self) -> Command:
        """The command that applies it to its shard."""
        return script(FOLLOW, self.keys, *self.arguments)


class RedoRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A decided update, with all that it takes to finish it."""

    id: str
    partitions: list[str]
    parts: list[ShardUpdate]


@dataclass(frozen=True, kw_only=True)
class GrownValue:
    """A value that has grown, and may need compaction."""

    shard: int
    state: ViewState
    key: bytes
    entity: bytes
    value: bytes = b""


class ShardedUpdate:
    """An update, split by shards. `record` has the parts of all but the first; None without any."""

    def __init__(self, update: OnlineUpdate, names: Names) -> None:
        self._update, self._names = update, names
        shards = range(len(names.tags))
        self._keys: list[list[bytes]] = [[] for _ in shards]
        self._entities: list[list[bytes]] = [[] for _ in shards]
        self._rows: list[list[bytes]] = [[] for _ in shards]
        self._states: list[list[ViewState]] = [[] for _ in shards]
        self._counts: list[list[int]] = [[] for _ in shards]
        self._moves = [
            PositionMove(
                name=partition_name(p),
                start=str(start),
                stop=str(update.ends[p]),
                newest=str(update.newest_us[p]) if p in update.newest_us else None,
            )
            for p, start in update.starts.items()
        ]
        self._split()
        self.record = self._make_record() if len(names.tags) > 1 else None

    def commit(self) -> Command:
        """The command that applies the first shard's part, and so decides the update."""
        update, names = self._update, self._names
        with_ids = [*(s.partition for s in update.seen), *(p for p, _ in update.forget)]
        seen = list(dict.fromkeys(with_ids))
        keys = [
            *(names.counter, names.positions[0], names.schemas, names.declared),
            *(names.redo, names.pending, *(names.seen(p) for p in seen)),
        ]
        at = {p: 7 + i for i, p in enumerate(seen)}  # Lua counts from 1
        blobs = [pack_seen(s) for s in update.seen]
        head: dict[str, Any] = {
            "generation": names.generation.decode(),
            "schemas": [(view, str(schema_id)) for view, schema_id in update.schemas.items()],
            "seen": [
                (at[s.partition], str(s.first_offset), _FIRST_BLOB + i)
                for i, s in enumerate(update.seen)
            ],
            "forget": [(at[p], str(first_offset)) for p, first_offset in update.forget],
        }
        if self.record:
            head |= {"id": self.record.id, "redo": _FIRST_BLOB + len(blobs)}
            blobs.append(msgspec.msgpack.encode(self.record))
        return script(
            COMMIT, [*keys, *self._keys[0]], *self._arguments(0, head, blobs, fixed=len(keys))
        )

    def grown(self, indexes: Sequence[Sequence[int]]) -> list[GrownValue]:
        """The values with these indexes, of each shard."""
        return [
            GrownValue(
                shard=shard,
                state=self._states[shard][i],
                key=self._keys[shard][i],
                entity=self._entities[shard][i],
            )
            for shard, of_shard in enumerate(indexes)
            for i in of_shard
        ]

    def _split(self) -> None:
        for change in self._update.changes:
            state = change.state
            prefixes = self._names.values(state.name)
            for shard, (entities, rows) in enumerate(self._by_shard(*change.by_entity())):
                self._keys[shard] += [prefixes[shard] + entity for entity in entities]
                self._entities[shard] += entities
                self._rows[shard] += rows
                self._states[shard] += [state] * len(entities)
                self._counts[shard].append(len(entities))

    def _by_shard(
        self, entities: Sequence[bytes], rows: Sequence[bytes]
    ) -> list[tuple[Sequence[bytes], Sequence[bytes]]]:
        shards = len(self._names.tags)
        if shards == 1:
            return [(entities, rows)]
        of_shard: list[tuple[list[bytes], list[bytes]]] = [([], []) for _ in range(shards)]
        for entity, packed in zip(entities, rows, strict=True):
            own_entities, own_rows = of_shard[self._names.shard_of(entity)]
            own_entities.append(entity)
            own_rows.append(packed)
        return [*of_shard]

    def _make_record(self) -> RedoRecord:
        positions = self._names.positions
        parts = [
            ShardUpdate(
                keys=[positions[shard], *self._keys[shard]],
                arguments=self._arguments(shard, {}, [], fixed=1),
            )
            for shard in range(1, len(positions))
        ]
        return RedoRecord(id=uuid4().hex, partitions=[m.name for m in self._moves], parts=parts)

    def _arguments(
        self, shard: int, head: dict[str, Any], blobs: list[bytes], *, fixed: int
    ) -> list[bytes]:
        """Head, blobs, an empty value for each view, rows. `fixed`: keys before those of values."""
        states = [change.state for change in self._update.changes]
        views = [
            ViewRowCount(
                name=state.name,
                schema=str(state.schema_id),
                empty=_FIRST_BLOB + len(blobs) + i,
                count=count,
                size=state.format.delta_row.itemsize,
            )
            for i, (state, count) in enumerate(zip(states, self._counts[shard], strict=True))
        ]
        last = _FIRST_BLOB - 1 + len(blobs) + len(states)
        head = {"moves": self._moves, "views": views, "fixed": fixed, "last": last, **head}
        return [
            *(msgspec.msgpack.encode(head), *blobs, *(state.empty for state in states)),
            *self._rows[shard],
        ]

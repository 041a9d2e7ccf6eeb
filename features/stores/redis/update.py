"""An update of the online store, cut into what the scripts of each shard are given."""

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


class Move(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A partition's step, and the newest emission that it brings. Numbers are text, since Lua has
    53 bits for them."""

    name: str
    start: str
    stop: str
    newest: str | None = None


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """So many of the following values belong to this view. `empty` is the place of a new value."""

    name: str
    schema: str
    empty: int
    count: int


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What an update brings to a shard that follows."""

    keys: list[bytes]
    arguments: list[bytes]

    def follow(self) -> Command:
        """Take it to its shard."""
        return script(FOLLOW, self.keys, *self.arguments)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A decided update, as whoever finishes it needs it."""

    id: str
    partitions: list[str]
    parts: list[Part]


@dataclass(frozen=True, kw_only=True)
class Grown:
    """A value that may be worth a fold."""

    shard: int
    state: ViewState
    key: bytes
    value: bytes = b""


class Update:
    """An update, cut by shards. `record` is what the other shards need; None without others."""

    def __init__(self, update: OnlineUpdate, names: Names) -> None:
        self._update, self._names = update, names
        shards = range(len(names.tags))
        self._keys: list[list[bytes]] = [[] for _ in shards]
        self._rows: list[list[bytes]] = [[] for _ in shards]
        self._states: list[list[ViewState]] = [[] for _ in shards]
        self._counts: list[list[int]] = [[] for _ in shards]
        self._moves = [
            Move(
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
        """The first shard's part, with the decision."""
        update, names = self._update, self._names
        of_seen = [*(s.partition for s in update.seen), *(p for p, _ in update.forget)]
        seen = list(dict.fromkeys(of_seen))
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

    def grown(self, found: Sequence[Sequence[int]]) -> list[Grown]:
        """The values at these places of each shard."""
        return [
            Grown(shard=shard, state=self._states[shard][i], key=self._keys[shard][i])
            for shard, places in enumerate(found)
            for i in places
        ]

    def _split(self) -> None:
        shard_of = self._names.shard_of
        for change in self._update.changes:
            state = change.state
            prefixes = self._names.values(state.name)
            counts = [0] * len(prefixes)
            for entity, rows in change.by_entity():
                shard = shard_of(entity)
                self._keys[shard].append(prefixes[shard] + entity)
                self._rows[shard].append(rows)
                self._states[shard].append(state)
                counts[shard] += 1
            for shard, count in enumerate(counts):
                self._counts[shard].append(count)

    def _make_record(self) -> Record:
        positions = self._names.positions
        parts = [
            Part(
                keys=[positions[shard], *self._keys[shard]],
                arguments=self._arguments(shard, {}, [], fixed=1),
            )
            for shard in range(1, len(positions))
        ]
        return Record(id=uuid4().hex, partitions=[m.name for m in self._moves], parts=parts)

    def _arguments(
        self, shard: int, head: dict[str, Any], blobs: list[bytes], *, fixed: int
    ) -> list[bytes]:
        """Head, blobs, an empty value for each view, rows. `fixed` keys come before the values'."""
        states = [change.state for change in self._update.changes]
        views = [
            Rows(
                name=state.name,
                schema=str(state.schema_id),
                empty=_FIRST_BLOB + len(blobs) + i,
                count=count,
            )
            for i, (state, count) in enumerate(zip(states, self._counts[shard], strict=True))
        ]
        last = _FIRST_BLOB - 1 + len(blobs) + len(states)
        head = {"moves": self._moves, "views": views, "fixed": fixed, "last": last, **head}
        return [
            *(msgspec.msgpack.encode(head), *blobs, *(state.empty for state in states)),
            *self._rows[shard],
        ]

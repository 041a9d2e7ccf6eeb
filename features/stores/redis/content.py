"""Replaces the content of an online store in Redis: writes a generation that nobody reads yet.

The new keys have a time to live, so that they expire after an interruption. When all are written
they lose it. Then one script begins the new generation: readers and writers see only that step.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from secrets import randbelow

from features.errors import StoreUnavailable
from features.stores.ports import OnlineContent
from features.stores.redis.names import Names, partition_name
from features.stores.redis.scripts import BEGIN
from features.stores.redis.servers import Command, Servers, script
from features.stores.seen_ids import pack_seen

EXPIRES_AFTER_S = 3_600  # longer than writing the content takes: no key gets more time later
AT_ONCE = 1_000
_FAR = 1 << 40  # no `clear` and no other content comes to the same number


def put_content(content: OnlineContent, names: Names, servers: Servers) -> Names:
    """Write the content and begin its generation; returns the names of its keys.

    Raises:
        StoreUnavailable: a server does not respond, or the store was cleared or replaced in the
            meantime. The new content is not used.
    """
    new = replace(names, generation=b"%d" % (int(names.generation) + 1 + randbelow(_FAR)))
    keys: dict[bytes, None] = {}
    for commands in _writes(content, new):
        servers.execute(commands)
        written = [command[1] for command in commands]
        servers.execute([("EXPIRE", key, EXPIRES_AFTER_S) for key in written])
        keys |= dict.fromkeys(key for key in written if isinstance(key, bytes))
    lasting = list(keys)
    for start in range(0, len(lasting), AT_ONCE):
        if not all(servers.execute([("PERSIST", key) for key in lasting[start : start + AT_ONCE]])):
            raise StoreUnavailable("the new online store took too long to write: it has expired")
    has_begun = servers.execute(
        [script(BEGIN, (names.counter,), names.generation, new.generation)]
    )[0]
    if not has_begun:
        raise StoreUnavailable(
            "the online store was cleared or replaced while a new one was being written",
            hint="run the same command again",
        )
    return new


def _writes(content: OnlineContent, names: Names) -> Iterator[list[Command]]:
    for view, values in content.values:
        prefixes = names.values(view)
        for start in range(0, len(values), AT_ONCE):
            yield [
                ("SET", prefixes[names.shard_of(entity)] + entity, value)
                for entity, value in values[start : start + AT_ONCE]
            ]
    for seen in content.seen:
        key = names.seen(seen.partition)
        yield [("HSET", key, str(seen.first_offset), pack_seen(seen))]
    for key in names.positions:
        yield _hash(key, [(partition_name(p), o) for p, o in content.positions.items()])
    for key in (names.schemas, names.declared):
        yield _hash(key, list(content.schemas.items()))


def _hash(key: bytes, fields: Sequence[tuple[str, int]]) -> list[Command]:
    return [("HSET", key, *(str(part) for field in fields for part in field))] if fields else []

"""One Redis or Valkey server, or a cluster of them: commands in, replies out, errors in our words.

Connects at the first command. A command is sent once: only the store knows whether a retry is safe.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from hashlib import sha1
from typing import Any, Protocol
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import NoPermissionError, NoScriptError, RedisClusterException
from redis.retry import Retry

from features.errors import StoreUnavailable
from features.stores.redis import scripts as redis_scripts

CONNECT_TIMEOUT_S = 2.0
# A shard of a cluster that hangs costs it once for each of its keys' slots: the sum has to stay
# below the watchdog's limit.
REPLY_TIMEOUT_S = 4.0
CLUSTER_SHARDS = 16
"""The number of shards of a store in a cluster, whatever the number of servers. Any servers beyond
that number are idle."""
_SCAN = 1_000
_CLUSTER = "+cluster"

Command = Sequence[bytes | str | int]
"""The words of a command. Its first key decides which server it goes to."""


def script(text: str, keys: Sequence[bytes], *arguments: bytes | str) -> Command:
    """The command that runs a script, by its digest."""
    digest = sha1(text.encode(), usedforsecurity=False).hexdigest()
    return ("EVALSHA", digest, len(keys), *keys, *arguments)


class Servers(Protocol):
    """Where a store's keys are."""

    tags: Sequence[bytes]
    """A hash tag for each shard: keys with one tag lie on one server, in one slot."""

    def execute(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to commands that are sent together; each is executed on its own.

        Raises:
            StoreUnavailable: some commands may have been executed.
        """
        ...

    def keys(self, pattern: bytes) -> Iterator[bytes]:
        """The keys that match, of all servers; one may come twice."""
        ...

    def info(self) -> list[Mapping[str, Any]]:
        """The `INFO` of each server; empty if the user may not read it."""
        ...

    def close(self) -> None:
        """End the connections."""
        ...


def connect(url: str) -> Servers:
    """The server or cluster of a URL; `redis+cluster` and `rediss+cluster` are clusters."""
    return _Cluster(url) if _CLUSTER in urlsplit(url).scheme else _Single(url)


def _even_tags(shards: int) -> list[bytes]:
    """One tag for each of `shards` equal ranges of slots, since servers own ranges of slots."""
    tags: dict[int, bytes] = {}
    number = 0
    while len(tags) < shards:
        tag = b"%d" % number
        tags.setdefault(key_slot(tag) * shards // REDIS_CLUSTER_HASH_SLOTS, tag)
        number += 1
    return [tags[shard] for shard in range(shards)]


class _Single:
    """One server: the whole store is one shard."""

    tags: Sequence[bytes] = (b"0",)

    def __init__(self, url: str) -> None:
        self._url, self._where = url, _without_password(url)

    def execute(self, commands: Sequence[Command]) -> list[Any]:
        with _our_errors(self._where):
            try:
                return self._execute(commands)
            except NoScriptError:
                for text in redis_scripts.ALL:
                    self._client.script_load(text)
                return self._execute(commands)

    def keys(self, pattern: bytes) -> Iterator[bytes]:
        with _our_errors(self._where):
            yield from self._client.scan_iter(match=pattern, count=_SCAN)

    def info(self) -> list[Mapping[str, Any]]:
        with _our_errors(self._where), suppress(NoPermissionError):
            return [self._client.info()]
        return []

    def close(self) -> None:
        if "_client" in self.__dict__:
            self._client.close()

    @cached_property
    def _client(self) -> Any:
        return redis.Redis.from_url(self._url, **_options())

    def _execute(self, commands: Sequence[Command]) -> list[Any]:
        pipe = self._client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        return _without_errors(pipe.execute(raise_on_error=False))


class _Cluster(_Single):
    """Several servers that share the slots."""

    tags: Sequence[bytes] = _even_tags(CLUSTER_SHARDS)

    def info(self) -> list[Mapping[str, Any]]:
        with _our_errors(self._where), suppress(NoPermissionError):
            return [self._client.info(target_nodes=n) for n in self._client.get_primaries()]
        return []

    @cached_property
    def _client(self) -> Any:
        return redis.RedisCluster.from_url(self._url.replace(_CLUSTER, "", 1), **_options())

    def _execute(self, commands: Sequence[Command]) -> list[Any]:
        pipe = self._client.pipeline()
        for command in commands:
            # Named here; otherwise the client asks a server for the keys of each script.
            node = self._client.get_node_from_key(_key_of(command))
            pipe.execute_command(*command, target_nodes=node)
        return _without_errors(pipe.execute(raise_on_error=False))


def _options() -> dict[str, Any]:
    return {
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": REPLY_TIMEOUT_S,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "client_name": "eventide",
        "protocol": 2,
    }


def _without_errors(replies: list[Any]) -> list[Any]:
    """The replies; raises the first error. The client's own error would quote the command."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def _key_of(command: Command) -> bytes | str | int:
    return command[3] if command[0] == "EVALSHA" else command[1]


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}"


@contextmanager
def _our_errors(where: str) -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, RedisClusterException, OSError) as error:
        raise StoreUnavailable(
            f"the online store {where} failed: {error}",
            hint="does the server run, does it know the password, and is its memory not full?",
        ) from error

"""Notices that a server evicts values, or has done so: they look like entities without events.

Settings of a server change while it is used. So writers and readers look again every few seconds.
The store also notes how many keys each server has evicted so far: what is evicted between two
looks, or while nobody looks, shows later. The note itself may be evicted too, so a server that has
evicted anything is not believed without one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from features.errors import StoreDamaged, StoreUnavailable
from features.stores.redis.names import Names
from features.stores.redis.servers import Command, Servers
from infra.process.timing import Clock, Deadline

log = structlog.get_logger()

CHECK_EVERY_S = 2.0


class EvictionCheck:
    """Looks at the servers of a store, at most every `CHECK_EVERY_S`. A writer keeps the note."""

    def __init__(self, servers: Servers, *, writes: bool, clock: Clock | None = None) -> None:
        self._servers, self._writes = servers, writes
        self._due = Deadline() if clock is None else Deadline(clock=clock)
        self._due.set(0)
        self._is_first = True

    def check(self, names: Names) -> None:
        """Look, if it is time.

        Raises:
            StoreUnavailable: a server would evict values when its memory is full.
            StoreDamaged: a server has evicted keys since the content was written.
        """
        if not self._due.has_passed:
            return
        servers = self._servers.info()
        for info in servers:
            _check_policy(info)
        if self._writes and self._is_first:
            _log_durability(servers)
        self._compare(names, _evicted(servers))
        self._is_first = False
        self._due.set(CHECK_EVERY_S)

    def forgive(self, names: Names) -> None:
        """Note the evictions until now: the content was just written."""
        self._servers.execute(_note(names, _evicted(self._servers.info())))

    def _compare(self, names: Names, evicted: Mapping[str, int]) -> None:
        fields = self._servers.execute([("HGETALL", names.evictions)])[0]
        if self._writes and not fields and not any(evicted.values()):
            self._servers.execute(_note(names, evicted))
        noted = {run.decode(): int(count) for run, count in fields.items()}
        # A server that has restarted since counts from 0 again, under another run id.
        lost = sum(max(0, count - noted.get(run, 0)) for run, count in evicted.items())
        if lost:
            raise StoreDamaged(
                f"the server of the online store has evicted {lost} keys",
                hint="ingest rebuilds the store; by hand: `eventide features rebuild`",
            )


def _note(names: Names, evicted: Mapping[str, int]) -> list[Command]:
    fields = [("HSET", names.evictions, run, count) for run, count in evicted.items()]
    return [("DEL", names.evictions), *fields]


def _evicted(servers: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many keys each server has evicted since its start, by its run id."""
    return {
        str(info["run_id"]): int(info["evicted_keys"])
        for info in servers
        if "run_id" in info and "evicted_keys" in info
    }


def _check_policy(info: Mapping[str, Any]) -> None:
    policy = info.get("maxmemory_policy", "noeviction")
    if info.get("maxmemory") and policy != "noeviction":
        raise StoreUnavailable(
            f"the server of the online store evicts values when it is full ({policy})",
            hint="set `maxmemory-policy noeviction`: a full server then refuses writes",
        )


def _log_durability(servers: Sequence[Mapping[str, Any]]) -> None:
    for info in servers:
        if not info.get("aof_enabled", 1):
            log.warning(
                "online_store_not_durable",
                why="`appendonly` is off: a restart of the server loses writes, or the whole store",
            )

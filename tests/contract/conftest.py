"""The adapters that the contract tests run against."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from features.stores.lmdb import LmdbOnlineStore
from features.stores.memory import MemoryOnlineStore
from features.stores.ports import OnlineStore
from features.stores.redis.store import RedisOnlineStore


@pytest.fixture(
    params=[
        "memory",
        "lmdb",
        *(pytest.param(s, marks=pytest.mark.servers) for s in ("redis", "redis-cluster")),
    ]
)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OnlineStore]:
    store = _store(request, tmp_path)
    yield store
    store.close()


def _store(request: pytest.FixtureRequest, tmp_path: Path) -> OnlineStore:
    """Servers are started for the tests that need them only."""
    if request.param == "memory":
        return MemoryOnlineStore()
    if request.param == "lmdb":
        return LmdbOnlineStore(str(tmp_path / "online"))
    fixture = "valkey_server" if request.param == "redis" else "valkey_masters"
    servers = request.getfixturevalue(fixture)
    servers.empty()
    return RedisOnlineStore(servers.url)

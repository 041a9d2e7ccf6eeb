"""What the online store in Redis promises beyond the port: on real servers, with real kills."""

import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from features.engine.deduplication import SeenIds
from features.engine.view_states import state_of
from features.errors import StoreReplaced
from features.stores.redis.servers import CLUSTER_SHARDS, connect
from features.stores.redis.store import RedisOnlineStore
from tests.support.data.sales import SHOP_SALES, sale
from tests.support.faults import FaultCounts
from tests.support.servers import Valkey, ValkeyCluster
from tests.support.shop_updates import SHOPS, assert_consistent, one_of_each_shop
from tests.support.stores import P0, P1, count, update

pytestmark = pytest.mark.servers


@pytest.fixture(params=["one server", "cluster"])
def url(request: pytest.FixtureRequest) -> str:
    """The URL of empty servers, which tests share."""
    fixture = "valkey_server" if request.param == "one server" else "valkey_masters"
    servers: Valkey | ValkeyCluster = request.getfixturevalue(fixture)
    servers.empty()
    return servers.url


@pytest.fixture
def cluster(valkey_masters: ValkeyCluster) -> str:
    """The URL of the empty cluster."""
    valkey_masters.empty()
    return valkey_masters.url


class Between:
    """Wraps the servers of a store, and calls `on_commands` before commands are sent."""

    def __init__(self, url: str, on_commands: Callable[[Sequence[Any]], None]) -> None:
        self.servers, self.on_commands = connect(url), on_commands
        self.tags = self.servers.tags

    def execute(self, commands: Sequence[Any]) -> list[Any]:
        self.on_commands(commands)
        return self.servers.execute(commands)

    def keys(self, pattern: bytes) -> Iterator[bytes]:
        return self.servers.keys(pattern)

    def info(self) -> list[Any]:
        return list(self.servers.info())

    def close(self) -> None:
        self.servers.close()


def test_a_batch_is_read_in_one_round_trip(url: str) -> None:
    rounds: list[Sequence[Any]] = []
    store = RedisOnlineStore(url, servers=Between(url, rounds.append))
    store.apply(update(*one_of_each_shop()))
    rounds.clear()
    values = store.get([(SHOP_SALES.name, [s.encode() for s in SHOPS]), ("city_sales", [b"no"])])
    assert len(rounds) == 1
    assert None not in values[0]
    assert values[1] == [None]


def test_an_update_of_one_server_is_one_script(valkey_server: Valkey) -> None:
    valkey_server.empty()
    rounds: list[Sequence[Any]] = []
    store = RedisOnlineStore("", servers=Between(valkey_server.url, rounds.append))
    store.positions()
    rounds.clear()
    seen_ids = SeenIds(partition=P0, first_offset=0, ids=["1"], known_at_us=np.array([1]))
    store.apply(update(*one_of_each_shop(), schemas={"shop_sales": 1}, seen=[seen_ids]))
    assert [len(commands) for commands in rounds] == [1]


def test_the_shards_are_spread_evenly_over_the_masters(valkey_masters: ValkeyCluster) -> None:
    valkey_masters.empty()
    RedisOnlineStore(valkey_masters.url).apply(update(*one_of_each_shop()))
    shards_by_master = []
    for master in valkey_masters.masters:
        with master.client() as client:
            shards_by_master.append({key.split(b":")[1] for key in client.keys("eventide:*")})
    assert sum(len(shards) for shards in shards_by_master) == CLUSTER_SHARDS
    assert all(
        len(shards) >= CLUSTER_SHARDS // len(shards_by_master) for shards in shards_by_master
    )


def test_a_writer_killed_at_any_moment_leaves_consistent_values_and_positions(
    url: str, faults: FaultCounts
) -> None:
    chance = random.Random(5)
    previous = 0
    for _ in range(faults.redis_writer_kills):
        writer = _process(_ENDLESS_WRITER, url)
        assert writer.stdout is not None
        for _ in range(chance.randint(1, 9)):
            assert writer.stdout.readline() == "applied\n"
        writer.kill()
        writer.communicate()
        store = RedisOnlineStore(url)
        reached = assert_consistent(store)
        assert reached > previous
        previous = reached
        store.close()


@pytest.mark.parametrize("shards", [0, 1, 7, CLUSTER_SHARDS - 1])
def test_the_next_writer_completes_an_update_that_was_killed_between_two_shards(
    cluster: str, shards: int
) -> None:
    RedisOnlineStore(cluster).apply(update(*one_of_each_shop(), compacted_through=10))
    writer = _process(_TORN_WRITER, cluster, str(shards))
    _, errors = writer.communicate(timeout=60)
    assert writer.returncode == -signal.SIGKILL, errors

    reader = RedisOnlineStore(cluster, readonly=True)
    complete = shards == CLUSTER_SHARDS - 1  # the decision includes the first shard
    assert reader.positions() == {P0: 200 if complete else 100}
    successor = RedisOnlineStore(cluster)
    assert successor.positions() == {P0: 200}
    assert assert_consistent(successor) == assert_consistent(reader) == 200
    successor.apply(update(*one_of_each_shop(), start=200))
    assert assert_consistent(successor) == 300


def test_a_writer_killed_before_the_decision_leaves_no_write(cluster: str) -> None:
    RedisOnlineStore(cluster).apply(update(*one_of_each_shop()))
    writer = _process(_TORN_WRITER, cluster, "undecided")
    writer.communicate(timeout=60)
    assert writer.returncode == -signal.SIGKILL
    assert assert_consistent(RedisOnlineStore(cluster)) == 100


def test_a_shard_applies_an_update_once_however_often_it_is_sent(cluster: str) -> None:
    sent: list[Sequence[Any]] = []
    between = Between(cluster, sent.append)
    store = RedisOnlineStore(cluster, servers=between)
    for n in range(3):
        store.apply(update(*one_of_each_shop(), start=100 * n))
    for commands in sent[:]:  # sending appends to it
        between.execute([c for c in commands if c[0] == "EVALSHA"] or [("GET", b"nothing")])
    assert assert_consistent(store) == 300


def test_two_processes_write_to_the_same_entities(url: str) -> None:
    writers = [_process(_OWNER, url, str(number)) for number in (0, 1)]
    for writer in writers:
        _, errors = writer.communicate(timeout=300)
        assert writer.returncode == 0, errors
    store = RedisOnlineStore(url)
    assert store.positions() == {P0: 6_000, P1: 6_000}
    assert assert_consistent(store) == 12_000
    value = store.get([(SHOP_SALES.name, [b"a"])])[0][0]
    assert value is not None
    assert (
        len(value) < 110 * state_of(SHOP_SALES).format.delta_row.itemsize
    )  # of 120 rows: it was compacted


def test_a_compaction_does_not_lose_concurrent_appends_of_another_writer(url: str) -> None:
    other_writer = RedisOnlineStore(url)
    reached = 0

    def append_before_each_exchange(commands: Sequence[Any]) -> None:
        nonlocal reached
        if any(c[0] == "EVALSHA" and len(c[3:]) == 3 * int(c[2]) for c in commands):
            other_writer.apply(update(sale("x"), partition=P1, start=reached))
            reached += 1

    store = RedisOnlineStore(url, servers=Between(url, append_before_each_exchange))
    sales = [sale(str(i), i % 20) for i in range(200)]
    store.apply(update(*sales, compacted_through=20))
    assert reached > 1  # every exchange met an append and was retried
    assert count(store) == 200 + reached


def test_after_a_clear_the_old_writer_must_read_its_position_again(url: str) -> None:
    writer, operator = RedisOnlineStore(url), RedisOnlineStore(url)
    writer.apply(update(sale("1")))
    operator.clear()
    for start in (1, 0):
        with pytest.raises(StoreReplaced, match="cleared"):
            writer.apply(update(sale("2"), start=start))
    assert writer.positions() == {}
    assert count(operator) == count(writer) == 0
    writer.apply(update(sale("2")))
    assert count(operator) == count(writer) == 1


def test_a_clear_deletes_the_keys_of_the_store_and_no_others(valkey_server: Valkey) -> None:
    valkey_server.empty()
    store = RedisOnlineStore(valkey_server.url)
    with valkey_server.client() as client:
        client.set("another:application", "1")
        store.apply(update(*one_of_each_shop()))
        store.clear()
        assert sorted(client.keys()) == [
            b"another:application",
            b"eventide:{0}:evictions",
            b"eventide:{0}:generation",
        ]


def _process(source: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", _COMMON + textwrap.dedent(source), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


_COMMON = textwrap.dedent("""
    import os, signal, sys
    from features.stores.redis.store import RedisOnlineStore
    from tests.support.stores import P0, P1, update
    from tests.support.shop_updates import one_of_each_shop
    from tests.contract.test_redis_online_store import Between
    store = RedisOnlineStore(sys.argv[1])
    def die():
        os.kill(os.getpid(), signal.SIGKILL)
""")
_ENDLESS_WRITER = """
    at = store.positions().get(P0, 0)
    while True:
        store.apply(update(*one_of_each_shop(), start=at, compacted_through=10))
        at += 100
        print("applied", flush=True)
"""
_OWNER = """
    partition = (P0, P1)[int(sys.argv[2])]
    for at in range(0, 6_000, 100):
        rows = one_of_each_shop()
        store.apply(update(*rows, partition=partition, start=at, compacted_through=10))
"""
_TORN_WRITER = """
    def tear(commands):
        if sys.argv[2] == "undecided":
            die()
        if len(commands) > 1:
            between.servers.execute(commands[:int(sys.argv[2])])
            die()
    between = Between(sys.argv[1], lambda _: None)
    store = RedisOnlineStore(sys.argv[1], servers=between)
    store.positions()
    between.on_commands = tear
    store.apply(update(*one_of_each_shop(), start=100, compacted_through=10))
"""

"""What every online store promises."""

import random
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.adapters.lmdb import LmdbOnlineStore
from features.adapters.memory import MemoryOnlineStore
from features.adapters.redis import RedisOnlineStore
from features.batches import view_rows
from features.errors import PositionMoved, StoreDamaged, StoreUnavailable
from features.order import UNSET
from features.ports import OnlineContent, OnlineStore, OnlineUpdate, SeenIds
from features.shapes import state_of
from features.state import OtherSchema, settled_to_us
from infra.clock import SECOND
from infra.kafka.partitions import Partition
from tests.made_sales import (
    CITY_SALES,
    SHOP_SALES,
    SOLD,
    START_US,
    Sale,
    reference,
    rows_of,
    sale,
)

P0, P1 = Partition(SOLD.name, 0), Partition(SOLD.name, 1)


@pytest.fixture(params=["memory", "lmdb", "redis", "redis-cluster"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OnlineStore]:
    made = _store(request, tmp_path)
    yield made
    made.close()


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


def update(
    *sales: Sale,
    start: int = 0,
    end: int | None = None,
    partition: Partition = P0,
    settled_to: int | None = None,
    **more: object,
) -> OnlineUpdate:
    rows = [view_rows(view, rows_of(sales)) for view in (SHOP_SALES, CITY_SALES) if sales]
    return OnlineUpdate(
        changes=[r for r in rows if r is not None],
        starts={partition: start},
        ends={partition: start + len(sales) if end is None else end},
        settled_to_us=UNSET if settled_to is None else START_US + settled_to * SECOND,
        **more,  # type: ignore[arg-type]
    )


def count(store: OnlineStore, shop: str = "a") -> float:
    """Sales of a shop, all known by now."""
    values = store.get([(SHOP_SALES.name, [shop.encode()])])[0]
    as_of = np.array([START_US + 20 * SECOND])
    read = state_of(SHOP_SALES).read(values, np.array([0]), as_of).values[0]
    return float(read[SHOP_SALES.features.index("shop_sales_count_40s")])


def test_a_new_store_is_empty(store: OnlineStore) -> None:
    assert store.progress() == {}
    assert store.newest_known_us() == {}
    assert store.get([("shop_sales", [b"a"]), ("city_sales", [])]) == [[None], []]
    assert store.schemas() == {}
    assert store.seen(P0) == []
    assert store.entities("shop_sales") == 0


def test_rows_of_several_updates_add_up(store: OnlineStore) -> None:
    store.apply(update(sale("1"), sale("2", shop="b")))
    store.apply(update(sale("3"), start=2))
    assert (count(store), count(store, "b"), count(store, "c")) == (2, 1, 0)
    assert store.progress() == {P0: 3}
    assert store.entities("shop_sales") == 2


def test_an_update_from_another_position_changes_nothing(store: OnlineStore) -> None:
    store.apply(update(sale("1")))
    for start in (0, 2):
        with pytest.raises(PositionMoved):
            store.apply(
                update(sale("2"), start=start, schemas={"new": 1}, newest_us={P0: START_US})
            )
    assert count(store) == 1
    assert store.progress() == {P0: 1}
    assert store.newest_known_us() == {}
    assert store.schemas() == {}


def test_one_wrong_position_of_several_stops_the_whole_update(store: OnlineStore) -> None:
    store.apply(update(sale("1")))
    both = OnlineUpdate(
        changes=update(sale("2")).changes,
        starts={P1: 0, P0: 0},
        ends={P1: 1, P0: 2},
        settled_to_us=UNSET,
    )
    with pytest.raises(PositionMoved):
        store.apply(both)
    assert count(store) == 1
    assert store.progress() == {P0: 1}


def test_a_failure_in_the_middle_changes_nothing(store: OnlineStore) -> None:
    """The second view's value is of another declaration: the first one's must not be written."""
    store.apply(update(sale("1")))
    changes = list(update(sale("2"), sale("3")).changes)
    broken = OnlineUpdate(
        changes=[changes[0], _of_another_schema(changes[1])],
        starts={P0: 1},
        ends={P0: 3},
        settled_to_us=UNSET,
    )
    with pytest.raises(OtherSchema):
        store.apply(broken)
    assert count(store) == 1
    assert store.progress() == {P0: 1}


def test_the_newest_emission_is_kept_for_each_partition(store: OnlineStore) -> None:
    store.apply(update(sale("1"), newest_us={P0: START_US}))
    store.apply(update(sale("2"), partition=P1, newest_us={P1: START_US + 5}))
    assert store.newest_known_us() == {P0: START_US, P1: START_US + 5}
    store.apply(update(start=1, end=3))
    store.apply(update(sale("3"), start=3, newest_us={P0: START_US + 9}))
    assert store.newest_known_us() == {P0: START_US + 9, P1: START_US + 5}
    assert store.progress() == {P0: 4, P1: 1}


def test_positions_move_without_rows(store: OnlineStore) -> None:
    store.apply(update(end=7))
    assert store.progress() == {P0: 7}


def test_values_are_folded_as_they_grow(store: OnlineStore) -> None:
    sales = [sale(str(i), i % 20) for i in range(200)]
    store.apply(update(*sales, settled_to=20))
    value = store.get([(SHOP_SALES.name, [b"a"])])[0][0]
    assert value is not None
    assert settled_to_us(value) == START_US + 20 * SECOND
    assert len(value) < 21 * state_of(SHOP_SALES).settled_row.itemsize + 64
    assert count(store) == 200


def test_late_and_equal_times_from_two_writers_give_what_the_words_say(store: OnlineStore) -> None:
    """Arrival is shuffled, times repeat, and both writers' events are about the same shops."""
    chance = random.Random(11)
    sales = [
        sale(
            str(i),
            chance.randrange(20),
            known=chance.randrange(20, 40),
            shop=chance.choice("ab"),
            cents=chance.randrange(6),
            weight=chance.choice((None, 1.5, 2.5)),
        )
        for i in range(600)
    ]
    reached = {P0: 0, P1: 0}
    for start in range(0, len(sales), 30):
        partition = chance.choice((P0, P1))
        some = sales[start : start + 30]
        store.apply(update(*some, start=reached[partition], partition=partition, settled_to=30))
        reached[partition] += len(some)
    assert store.progress() == reached
    questions = [(shop, t) for shop in "ab" for t in (30, 33, 36, 40, 50)]
    values = store.get([(SHOP_SALES.name, [shop.encode() for shop, _ in questions])])[0]
    as_of = np.array([START_US + t * SECOND for _, t in questions])
    read = state_of(SHOP_SALES).read(values, np.arange(len(questions)), as_of)
    np.testing.assert_array_equal(read.values, reference(sales, questions))
    assert read.exact.all()


def test_seen_ids_are_kept_in_order_until_they_are_forgotten(store: OnlineStore) -> None:
    slices = [
        SeenIds(partition=P0, first_offset=o, ids=[f"é{o}", "b"], known_at_us=np.array([o, o + 1]))
        for o in (300, 5, 70_000)
    ]
    store.apply(update(end=9, seen=slices))
    found = store.seen(P0)
    assert [s.first_offset for s in found] == [5, 300, 70_000]
    assert found[1].ids == ["é300", "b"]
    assert found[1].known_at_us.tolist() == [300, 301]
    assert store.seen(P1) == []

    store.apply(update(start=9, end=10, forget=[(P0, 5), (P0, 300)]))
    assert [s.first_offset for s in store.seen(P0)] == [70_000]


def test_schemas_are_kept(store: OnlineStore) -> None:
    found = {"shop_sales": 2**64 - 1, "city_sales": 0}
    store.apply(update(end=1, schemas=found))
    assert store.schemas() == found


def test_a_view_that_the_writer_stopped_keeping_is_not_whole_any_more(store: OnlineStore) -> None:
    store.apply(update(end=1, schemas={"shop_sales": 1, "city_sales": 2}))
    store.apply(update(start=1, end=2, schemas={"city_sales": 2}))
    assert store.schemas() == {"city_sales": 2}


def test_entities_may_have_any_name(store: OnlineStore) -> None:
    names = ["é", "x" * 100, "y" * 2_000, "y" * 2_001, "v", "p"]
    store.apply(update(*(sale(str(i), shop=name) for i, name in enumerate(names))))
    assert [count(store, name) for name in names] == [1] * 6
    assert store.entities("shop_sales") == 6


def test_a_cleared_store_is_a_new_one(store: OnlineStore) -> None:
    seen = SeenIds(partition=P0, first_offset=0, ids=["a"], known_at_us=np.array([1]))
    newest_us = {P0: START_US}
    store.apply(update(sale("1"), schemas={"shop_sales": 1}, seen=[seen], newest_us=newest_us))
    store.clear()
    test_a_new_store_is_empty(store)


def content(*sales: Sale, positions: dict[Partition, int], **more: Any) -> OnlineContent:
    """What a store would hold after these sales."""
    made = MemoryOnlineStore()
    made.apply(update(*sales))
    names = [s.shop.encode() for s in sales]
    values = made.get([(SHOP_SALES.name, names)])[0]
    some = [(name, value) for name, value in zip(names, values, strict=True) if value is not None]
    parts = {"seen": [], "schemas": {}, **more}
    batches = [(SHOP_SALES.name, [item]) for item in some]  # a store takes them one by one
    return OnlineContent(values=batches, positions=positions, **parts)


def test_a_replaced_store_holds_the_new_content_and_nothing_else(store: OnlineStore) -> None:
    old = SeenIds(partition=P0, first_offset=0, ids=["1"], known_at_us=np.array([1]))
    new = SeenIds(partition=P1, first_offset=3, ids=["9", "8"], known_at_us=np.array([2, 3]))
    store.apply(update(sale("1"), sale("2", shop="b"), schemas={"old": 1}, seen=[old]))
    store.replace(
        content(
            sale("3", shop="b"),
            sale("4", shop="b"),
            sale("5", shop="x" * 2_000),
            positions={P1: 5},
            seen=[new],
            schemas={"shop_sales": 7},
        )
    )
    assert (count(store), count(store, "b"), count(store, "x" * 2_000)) == (0, 2, 1)
    assert store.progress() == {P1: 5}
    assert store.schemas() == {"shop_sales": 7}
    assert store.seen(P0) == []
    assert [s.ids for s in store.seen(P1)] == [["9", "8"]]
    assert (store.entities("shop_sales"), store.entities("city_sales")) == (2, 0)


def test_a_writer_of_before_meets_moved_positions_and_one_of_after_goes_on(
    store: OnlineStore,
) -> None:
    store.apply(update(sale("1"), sale("2")))
    store.replace(content(sale("1"), positions={P0: 1}))
    with pytest.raises(PositionMoved):
        store.apply(update(sale("3"), start=2))
    store.apply(update(sale("2"), sale("3"), start=1))
    assert count(store) == 3


def test_content_that_cannot_be_made_leaves_the_old(store: OnlineStore) -> None:
    """It is taken before the step: until then the old values are read, and written to."""
    store.apply(update(sale("1")))

    def fails() -> Iterator[tuple[str, list[tuple[bytes, bytes]]]]:
        yield SHOP_SALES.name, [(b"b", b"half")]
        store.apply(update(sale("2"), start=1))
        raise StoreUnavailable("the offline store went away")

    with pytest.raises(StoreUnavailable, match="went away"):
        store.replace(OnlineContent(values=fails(), positions={}, seen=[], schemas={}))
    assert (count(store), count(store, "b")) == (2, 0)
    assert store.progress() == {P0: 2}


def test_pages_give_each_value_of_a_view_once(store: OnlineStore) -> None:
    names = [*(f"s{n}" for n in range(7)), "y" * 2_000]
    store.apply(update(*(sale(n, shop=n) for n in names)))
    expected = sorted(v for v in store.get([("shop_sales", [n.encode() for n in names])])[0] if v)
    for limit in (1, 3, 8, 100):
        found, after = [], b""
        for _ in range(len(names)):
            page = store.page("shop_sales", after=after, limit=limit)
            found += page.values
            after = page.after
            if not after:
                break
        assert (sorted(found), after) == (expected, b"")
    assert store.page("none", after=b"", limit=3).values == []


def _of_another_schema(change: object) -> object:
    from dataclasses import replace

    # The same name and rows, but the stored value was made by the state of SHOP_SALES' sibling.
    state = state_of(replace(CITY_SALES, entity=SHOP_SALES.entity))
    return replace(change, state=state)  # type: ignore[type-var]


class TestLmdb:
    """What only a file has to promise."""

    def test_everything_is_there_after_reopening(self, tmp_path: Path) -> None:
        first = LmdbOnlineStore(str(tmp_path))
        first.apply(update(sale("1"), schemas={"shop_sales": 1}))
        first.close()
        again = LmdbOnlineStore(str(tmp_path), readonly=True)
        assert count(again) == 1
        assert again.progress() == {P0: 1}
        again.close()

    def test_reading_what_is_not_there_says_who_makes_it(self, tmp_path: Path) -> None:
        with pytest.raises(StoreUnavailable) as caught:
            LmdbOnlineStore(str(tmp_path / "nowhere"), readonly=True)
        assert "ingest" in (caught.value.hint or "")

    def test_a_folder_that_cannot_be_made_is_a_clear_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(StoreUnavailable, match="file"):
            LmdbOnlineStore(str(tmp_path / "file"))

    def test_the_map_grows_when_it_is_full(self, tmp_path: Path) -> None:
        small = LmdbOnlineStore(str(tmp_path), map_bytes=64 * 1024)
        for i in range(20):
            shops = [sale(str(n), shop=f"{i}-{n}") for n in range(100)]
            small.apply(update(*shops, start=i * 100))
        assert small.progress() == {P0: 2_000}
        assert small.entities("shop_sales") == 2_000
        small.close()

    def test_an_update_that_needs_a_larger_map_than_allowed_writes_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("features.adapters.lmdb.MAX_MAP_BYTES", 100_000)
        small = LmdbOnlineStore(str(tmp_path), map_bytes=64 * 1024)
        small.apply(update(sale("1")))
        with pytest.raises(StoreUnavailable, match="has reached"):
            small.apply(update(*(sale(str(n), shop=f"s{n}") for n in range(2_000)), start=1))
        assert small.progress() == {P0: 1}
        small.close()

    def test_readers_in_other_processes_see_whole_updates_and_a_grown_map(
        self, tmp_path: Path
    ) -> None:
        writer = LmdbOnlineStore(str(tmp_path), map_bytes=64 * 1024)
        writer.apply(update(sale("1")))
        readers = [_reader(tmp_path) for _ in range(2)]
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "1 1\n"
        for n in range(1, 400):
            writer.apply(update(sale("x"), sale("y", shop=f"s{n}"), start=2 * n - 1))
        for reader in readers:
            output, _ = reader.communicate("go\n", timeout=60)
            assert output == "400 799\n"
        writer.close()

    def test_a_reader_of_another_process_sees_the_old_content_or_the_new(
        self, tmp_path: Path
    ) -> None:
        store = LmdbOnlineStore(str(tmp_path), map_bytes=64 * 1024)
        for n in range(0, 50_000, 1_000):
            store.apply(update(sale("1"), end=n + 1_000, start=n))
        reader = _reader(tmp_path)
        assert reader.stdout is not None
        assert reader.stdout.readline() == "50 50000\n"
        shops = [sale(str(n), shop=f"s{n}") for n in range(5_000)]  # the map has to grow
        store.replace(content(sale("1"), sale("2"), *shops, positions={P1: 7}))
        assert reader.communicate("go\n", timeout=60)[0] == "2 7\n"
        store.close()

    def test_a_replacement_killed_in_the_middle_leaves_the_old_content(
        self, tmp_path: Path
    ) -> None:
        store = LmdbOnlineStore(str(tmp_path))
        store.apply(update(sale("1")))
        for at in ("content", "step"):
            writer = subprocess.Popen(
                [sys.executable, "-c", _SLOW_REPLACER, str(tmp_path), at],
                stdout=subprocess.PIPE,
                text=True,
            )
            assert writer.stdout is not None
            assert writer.stdout.readline() == "in the middle\n"
            writer.kill()
            writer.communicate()
            assert (count(store), store.progress()) == (1, {P0: 1})
            store.apply(update(end=1, start=1))  # no lock is left behind
        assert sorted(p.name for p in tmp_path.iterdir()) == ["data.mdb", "lock.mdb"]
        store.close()

    def test_a_file_that_was_deleted_is_not_written_any_more(self, tmp_path: Path) -> None:
        folder = tmp_path / "online"
        store = LmdbOnlineStore(str(folder))
        store.apply(update(sale("1")))
        shutil.rmtree(folder)
        with pytest.raises(PositionMoved):
            store.apply(update(sale("2"), start=1))
        store.apply(update(sale("1"), sale("2")))
        assert (count(store), store.progress()) == (2, {P0: 2})
        store.close()

    def test_a_file_that_was_deleted_is_not_read_any_more(self, tmp_path: Path) -> None:
        folder = tmp_path / "online"
        _write_elsewhere(folder)
        store = LmdbOnlineStore(str(folder), readonly=True)
        shutil.rmtree(folder)
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="no online store"):
                store.progress()
        _write_elsewhere(folder)
        assert store.progress() == {P1: 500}
        store.close()

    def test_a_file_that_is_no_store_says_what_to_do_and_can_be_discarded(
        self, tmp_path: Path
    ) -> None:
        LmdbOnlineStore(str(tmp_path)).close()
        (tmp_path / "data.mdb").write_bytes(b"garbage" * 5_000)
        for readonly in (True, False):
            with pytest.raises(StoreDamaged) as caught:
                LmdbOnlineStore(str(tmp_path), readonly=readonly)
            assert "eventide features rebuild" in (caught.value.hint or "")
        LmdbOnlineStore.discard(tmp_path)
        again = LmdbOnlineStore(str(tmp_path))
        assert again.progress() == {}
        again.close()

    def test_two_writing_processes_share_the_file(self, tmp_path: Path) -> None:
        writer = LmdbOnlineStore(str(tmp_path), map_bytes=64 * 1024)
        writer.apply(update(sale("1")))
        _write_elsewhere(tmp_path)
        writer.apply(update(sale("2"), start=1))
        assert writer.progress() == {P0: 2, P1: 500}
        assert writer.entities("shop_sales") == 501
        with pytest.raises(PositionMoved):
            writer.apply(update(sale("3"), partition=P1))
        writer.close()

    def test_an_update_is_one_transaction(self, tmp_path: Path) -> None:
        """A kill between two of them is too rare to be met by the test that follows."""
        store = LmdbOnlineStore(str(tmp_path))
        store._env = counting = _CountsWrites(store._env)
        seen = SeenIds(partition=P0, first_offset=0, ids=["1"], known_at_us=np.array([1]))
        newest_us = {P0: START_US}
        store.apply(update(sale("1"), schemas={"shop_sales": 1}, seen=[seen], newest_us=newest_us))
        assert counting.writes == 1
        store.close()

    def test_a_killed_writer_leaves_values_and_positions_of_one_moment(
        self, tmp_path: Path
    ) -> None:
        chance = random.Random(5)
        for _ in range(12):
            writer = subprocess.Popen(
                [sys.executable, "-c", _ENDLESS_WRITER, str(tmp_path)],
                stdout=subprocess.PIPE,
                text=True,
            )
            assert writer.stdout is not None
            for _ in range(chance.randint(1, 9)):
                assert writer.stdout.readline() == "applied\n"
            writer.kill()
            writer.communicate()
            store = LmdbOnlineStore(str(tmp_path))
            assert count(store) * 100 == store.progress()[P0]
            store.close()


_READER = """
    import sys
    from tests.contract.test_online_store import count
    from features.adapters.lmdb import LmdbOnlineStore
    store = LmdbOnlineStore(sys.argv[1], readonly=True)
    for line in (None, sys.stdin):
        if line is not None:
            sys.stdin.readline()
        print(int(count(store)), sum(store.progress().values()), flush=True)
"""
_WRITER = textwrap.dedent("""
    import sys
    from tests.contract.test_online_store import P1, update
    from tests.made_sales import sale
    from features.adapters.lmdb import LmdbOnlineStore
    store = LmdbOnlineStore(sys.argv[1], map_bytes=64 * 1024)
    for n in range(5):
        shops = [sale(str(i), shop=f"other {n} {i}") for i in range(100)]
        store.apply(update(*shops, partition=P1, start=100 * n))
""")
_SLOW_REPLACER = textwrap.dedent("""
    import sys, time
    from tests.contract.test_online_store import P0, content
    from tests.made_sales import sale
    from features.adapters import lmdb
    from features.ports import OnlineContent
    def stop():
        print("in the middle", flush=True)
        time.sleep(600)
    def values():
        made = content(sale("8"), sale("9"), positions={}).values
        yield from made
        if sys.argv[2] == "content":
            stop()
    rest = lmdb._put_aside_items
    def half(waiting):
        yield next(rest(waiting))
        stop()
    lmdb._put_aside_items = half
    lmdb.LmdbOnlineStore(sys.argv[1]).replace(
        OnlineContent(values=values(), positions={P0: 9}, seen=[], schemas={})
    )
""")
_ENDLESS_WRITER = textwrap.dedent("""
    import sys
    from tests.contract.test_online_store import P0, update
    from tests.made_sales import sale
    from features.adapters.lmdb import LmdbOnlineStore
    store = LmdbOnlineStore(sys.argv[1])
    at = store.progress().get(P0, 0)
    while True:
        shops = [sale(str(i), shop="a" if i == 0 else str(i)) for i in range(100)]
        store.apply(update(*shops, start=at))
        at += 100
        print("applied", flush=True)
""")


class _CountsWrites:
    """Stands before an environment and counts its writing transactions."""

    def __init__(self, env: Any) -> None:
        self._env, self.writes = env, 0

    def begin(self, *, write: bool) -> Any:
        self.writes += write
        return self._env.begin(write=write)

    def close(self) -> None:
        self._env.close()


def _write_elsewhere(folder: Path) -> None:
    """500 shops in the other partition, by another process."""
    other = subprocess.run(
        [sys.executable, "-c", _WRITER, str(folder)], check=False, capture_output=True, text=True
    )
    assert other.returncode == 0, other.stderr


def _reader(folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_READER), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

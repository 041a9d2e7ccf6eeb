"""What the LMDB online store promises beyond the port."""

import random
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest

from features.engine.deduplication import SeenIds
from features.errors import OffsetConflict, StoreDamaged, StoreUnavailable
from features.stores import lmdb as lmdb_store
from features.stores.lmdb import LmdbOnlineStore
from tests.support.data.sales import START_US, sale
from tests.support.faults import FaultCounts
from tests.support.stores import P0, P1, content, count, update


def test_a_reopened_store_has_all_its_values(tmp_path: Path) -> None:
    writer = LmdbOnlineStore(str(tmp_path))
    writer.apply(update(sale("1"), schemas={"shop_sales": 1}))
    writer.close()
    reader = LmdbOnlineStore(str(tmp_path), readonly=True)
    assert count(reader) == 1
    assert reader.positions() == {P0: 1}
    reader.close()


def test_reading_a_missing_store_names_the_command_that_creates_it(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        LmdbOnlineStore(str(tmp_path / "nowhere"), readonly=True)
    assert "ingest" in (caught.value.hint or "")


def test_a_folder_that_cannot_be_created_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreUnavailable, match="file"):
        LmdbOnlineStore(str(tmp_path / "file"))


def test_the_map_grows_when_it_is_full(tmp_path: Path) -> None:
    small = LmdbOnlineStore(str(tmp_path), map_bytes=64 * 1024)
    for i in range(20):
        shops = [sale(str(n), shop=f"{i}-{n}") for n in range(100)]
        small.apply(update(*shops, start=i * 100))
    assert small.positions() == {P0: 2_000}
    assert small.entities("shop_sales") == 2_000
    small.close()


def test_an_update_that_needs_a_larger_map_than_allowed_writes_nothing(tmp_path: Path) -> None:
    small = LmdbOnlineStore(str(tmp_path), map_bytes=64 * 1024, max_map_bytes=100_000)
    small.apply(update(sale("1")))
    with pytest.raises(StoreUnavailable, match="has reached"):
        small.apply(update(*(sale(str(n), shop=f"s{n}") for n in range(2_000)), start=1))
    assert small.positions() == {P0: 1}
    small.close()


def test_readers_in_other_processes_see_complete_updates_and_a_grown_map(tmp_path: Path) -> None:
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


def test_a_reader_in_another_process_sees_the_old_content_or_the_new(tmp_path: Path) -> None:
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


@pytest.mark.fault
def test_a_replacement_killed_in_the_middle_leaves_the_old_content(tmp_path: Path) -> None:
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
        assert (count(store), store.positions()) == (1, {P0: 1})
        store.apply(update(end=1, start=1))  # no lock is left behind
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.mdb", "lock.mdb"]
    store.close()


def test_a_writer_notices_a_deleted_file(tmp_path: Path) -> None:
    folder = tmp_path / "online"
    store = LmdbOnlineStore(str(folder))
    store.apply(update(sale("1")))
    shutil.rmtree(folder)
    with pytest.raises(OffsetConflict):
        store.apply(update(sale("2"), start=1))
    store.apply(update(sale("1"), sale("2")))
    assert (count(store), store.positions()) == (2, {P0: 2})
    store.close()


def test_a_reader_notices_a_deleted_file(tmp_path: Path) -> None:
    folder = tmp_path / "online"
    _write_elsewhere(folder)
    store = LmdbOnlineStore(str(folder), readonly=True)
    shutil.rmtree(folder)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="no online store"):
            store.positions()
    _write_elsewhere(folder)
    assert store.positions() == {P1: 500}
    store.close()


def test_a_damaged_file_is_reported_with_a_remedy_and_can_be_discarded(tmp_path: Path) -> None:
    LmdbOnlineStore(str(tmp_path)).close()
    (tmp_path / "data.mdb").write_bytes(b"garbage" * 5_000)
    for readonly in (True, False):
        with pytest.raises(StoreDamaged) as caught:
            LmdbOnlineStore(str(tmp_path), readonly=readonly)
        assert "eventide features rebuild" in (caught.value.hint or "")
    LmdbOnlineStore.discard(tmp_path)
    store = LmdbOnlineStore(str(tmp_path))
    assert store.positions() == {}
    store.close()


def test_two_writing_processes_share_the_file(tmp_path: Path) -> None:
    writer = LmdbOnlineStore(str(tmp_path), map_bytes=64 * 1024)
    writer.apply(update(sale("1")))
    _write_elsewhere(tmp_path)
    writer.apply(update(sale("2"), start=1))
    assert writer.positions() == {P0: 2, P1: 500}
    assert writer.entities("shop_sales") == 501
    with pytest.raises(OffsetConflict):
        writer.apply(update(sale("3"), partition=P1))
    writer.close()


def test_an_update_is_one_transaction(tmp_path: Path) -> None:
    """A kill between two transactions is too rare for the kill test below to hit one."""
    counting = _CountsWrites()
    store = LmdbOnlineStore(str(tmp_path), open_env=counting.open)
    seen_ids = SeenIds(partition=P0, first_offset=0, ids=["1"], known_at_us=np.array([1]))
    newest_us = {P0: START_US}
    store.apply(update(sale("1"), schemas={"shop_sales": 1}, seen=[seen_ids], newest_us=newest_us))
    assert counting.writes == 1
    store.close()


@pytest.mark.fault
def test_a_killed_writer_leaves_consistent_values_and_positions(
    tmp_path: Path, faults: FaultCounts
) -> None:
    chance = random.Random(5)
    for _ in range(faults.lmdb_writer_kills):
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
        assert count(store) * 100 == store.positions()[P0]
        store.close()


_READER = """
    import sys
    from tests.support.stores import count
    from features.stores.lmdb import LmdbOnlineStore
    store = LmdbOnlineStore(sys.argv[1], readonly=True)
    for line in (None, sys.stdin):
        if line is not None:
            sys.stdin.readline()
        print(int(count(store)), sum(store.positions().values()), flush=True)
"""
_WRITER = textwrap.dedent("""
    import sys
    from tests.support.stores import P1, update
    from tests.support.data.sales import sale
    from features.stores.lmdb import LmdbOnlineStore
    store = LmdbOnlineStore(sys.argv[1], map_bytes=64 * 1024)
    for n in range(5):
        shops = [sale(str(i), shop=f"other {n} {i}") for i in range(100)]
        store.apply(update(*shops, partition=P1, start=100 * n))
""")
_SLOW_REPLACER = textwrap.dedent("""
    import sys, time
    from tests.support.stores import P0, content
    from tests.support.data.sales import sale
    from features.stores import lmdb
    from features.stores.ports import OnlineContent
    def stop():
        print("in the middle", flush=True)
        time.sleep(600)
    def values():
        yield from content(sale("8"), sale("9"), positions={}).values
        if sys.argv[2] == "content":
            stop()
    staged_items = lmdb.staged_items
    def half(waiting):
        yield next(staged_items(waiting))
        stop()
    lmdb.staged_items = half
    lmdb.LmdbOnlineStore(sys.argv[1]).replace(
        OnlineContent(values=values(), positions={P0: 9}, seen=[], schemas={})
    )
""")
_ENDLESS_WRITER = textwrap.dedent("""
    import sys
    from tests.support.stores import P0, update
    from tests.support.data.sales import sale
    from features.stores.lmdb import LmdbOnlineStore
    store = LmdbOnlineStore(sys.argv[1])
    at = store.positions().get(P0, 0)
    while True:
        shops = [sale(str(i), shop="a" if i == 0 else str(i)) for i in range(100)]
        store.apply(update(*shops, start=at))
        at += 100
        print("applied", flush=True)
""")


class _CountsWrites:
    """Wraps an environment and counts its write transactions."""

    def __init__(self) -> None:
        self._env: Any = None
        self.writes = 0

    def open(self, folder: str, **options: Any) -> Any:
        self._env = lmdb.open(folder, **options)
        return self

    def begin(self, *, write: bool) -> Any:
        self.writes += write
        return self._env.begin(write=write)

    def reader_check(self) -> int:
        freed: int = self._env.reader_check()
        return freed

    def close(self) -> None:
        self._env.close()


def _write_elsewhere(folder: Path) -> None:
    """500 shops in the other partition, by another process."""
    completed = subprocess.run(
        [sys.executable, "-c", _WRITER, str(folder)], check=False, capture_output=True, text=True
    )
    assert completed.returncode == 0, completed.stderr


def _reader(folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_READER), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_reader_that_was_killed_inside_a_read_does_not_make_the_file_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lmdb_store, "FREE_SLOTS_EVERY_S", 0.0)
    undisturbed = _pages_after_updates(LmdbOnlineStore(str(tmp_path / "undisturbed")))
    store = LmdbOnlineStore(str(tmp_path / "read"))
    _kill_a_reader_inside_a_read(tmp_path / "read")
    assert _pages_after_updates(store) < undisturbed + 30


def _pages_after_updates(store: LmdbOnlineStore) -> int:
    for n in range(400):
        store.apply(update(*(sale(f"{n}-{i}", shop=f"s{i}") for i in range(5)), start=5 * n))
    pages: int = store._env.info()["last_pgno"]
    store.close()
    return pages


def _kill_a_reader_inside_a_read(folder: Path) -> None:
    script = """
        import sys, time
        from features.stores.lmdb import LmdbOnlineStore
        store = LmdbOnlineStore(sys.argv[1], readonly=True)
        with store._transaction():
            print("reading", flush=True)
            time.sleep(600)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(folder)]
    reader = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert reader.stdout is not None
    assert reader.stdout.readline() == "reading\n"
    reader.kill()
    reader.wait()
    reader.stdout.close()

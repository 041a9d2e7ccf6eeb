"""Upkeep changes no row, no position and no pinned version, and never stands in a writer's way."""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from deltalake import DeltaTable

from features.definitions import EventType
from features.errors import StoreUnavailable, WriteConflict
from features.maintenance.compaction import CompactionRules, MaintenanceResult, maintain
from features.stores.delta.maintenance import DeltaMaintenance
from features.stores.delta.store import DeltaOfflineStore
from features.stores.ports import EventBatch
from infra.clock import DAY, HOUR
from tests.contract.test_offline_store import P0, SECONDS_A_DAY, batch, ids
from tests.support.data.sales import SOLD, sale
from tests.support.waiting import wait_until

RULES = CompactionRules(closed_after_us=DAY, retention_hours=1)
DAYS, A_DAY = 5, 4


@pytest.fixture
def store(tmp_path: Path) -> DeltaOfflineStore:
    """Five days from 1 January, each in four commits; the last ends with the newest event."""
    store = DeltaOfflineStore(str(tmp_path), [SOLD])
    for n in range(DAYS * A_DAY):
        happened = n // A_DAY * SECONDS_A_DAY + n % A_DAY * SECONDS_A_DAY // 5
        store.append(batch(sale(f"{n:02}", happened), start=n))
    return store


@pytest.fixture
def upkeep(tmp_path: Path, store: DeltaOfflineStore) -> DeltaMaintenance:
    return DeltaMaintenance(str(tmp_path))


def kept(
    store: DeltaOfflineStore, upkeep: DeltaMaintenance, rules: CompactionRules = RULES
) -> MaintenanceResult:
    return maintain([SOLD], store, upkeep, rules=rules, on_progress=lambda _: None)[0]


def every_id(store: DeltaOfflineStore, version: int | None = None) -> list[str]:
    return ids(store.read(SOLD, columns=["event_id"], version=version))


def test_closed_days_become_one_file_and_nothing_else_changes(
    store: DeltaOfflineStore, upkeep: DeltaMaintenance, tmp_path: Path
) -> None:
    columns = [*SOLD.fields, "known_at_us", "ingest_time_us", "partition", "offset"]
    before = store.read(SOLD, columns=columns).sort("offset")
    done = kept(store, upkeep)
    assert (done.days, done.files_before, done.files_after) == (3, 20, 11)
    assert sorted(upkeep.days_to_compact(SOLD)) == [
        date(2013, 1, 4),
        date(2013, 1, 5),
    ]  # late ones come
    assert store.read(SOLD, columns=columns).sort("offset").equals(before)
    fresh = DeltaOfflineStore(str(tmp_path), [SOLD])
    assert fresh.positions([SOLD.name]) == {P0: 20}
    assert fresh.newest_known_at_us(SOLD) == before["known_at_us"].max()
    store.append(batch(sale("20"), start=20))  # by the handle from before
    assert len(every_id(fresh)) == 21


def test_a_second_run_changes_nothing(store: DeltaOfflineStore, upkeep: DeltaMaintenance) -> None:
    kept(store, upkeep)
    version = store.version(SOLD)
    again = kept(store, upkeep)
    assert store.version(SOLD) == version
    assert (again.days, again.deleted, again.files_after) == (0, 0, again.files_before)


def test_a_table_that_is_not_there_is_left_out(tmp_path: Path) -> None:
    root = str(tmp_path / "none")
    upkeep = DeltaMaintenance(root)
    store = DeltaOfflineStore(root, [SOLD])
    assert maintain([SOLD], store, upkeep, rules=RULES, on_progress=lambda _: None) == []


class TestVacuum:
    """What may be deleted, and what must not be."""

    def test_a_pinned_version_outlives_it_and_another_does_not(
        self, store: DeltaOfflineStore, upkeep: DeltaMaintenance
    ) -> None:
        pinned, other = 6, 16
        seen = every_id(store, pinned)
        store.pin(SOLD, pinned, "training")
        kept(store, upkeep)
        assert upkeep.vacuum(SOLD, retention_hours=0, keep={pinned}) > 0
        assert every_id(store, pinned) == seen
        with pytest.raises(StoreUnavailable):
            store.read(SOLD, columns=["cents"], version=other)
        assert len(every_id(store)) == DAYS * A_DAY

    def test_pins_hold_also_when_the_log_has_many_checkpoints(
        self, store: DeltaOfflineStore, upkeep: DeltaMaintenance
    ) -> None:
        seen = every_id(store, 3)
        for n in range(20, 26):
            upkeep.checkpoint(SOLD)
            store.append(batch(sale(f"{n}", 9 * SECONDS_A_DAY), start=n))
            kept(store, upkeep)
            upkeep.vacuum(SOLD, retention_hours=0, keep={3, n - 2})
        assert every_id(store, 3) == seen

    def test_a_released_pin_lets_its_files_go(
        self, store: DeltaOfflineStore, upkeep: DeltaMaintenance
    ) -> None:
        store.pin(SOLD, 6, "training")
        kept(store, upkeep)
        upkeep.vacuum(SOLD, retention_hours=0, keep={p.version for p in store.pins()})
        store.unpin("training")
        assert upkeep.vacuum(SOLD, retention_hours=0, keep={p.version for p in store.pins()}) > 0
        with pytest.raises(StoreUnavailable):
            store.read(SOLD, columns=["cents"], version=6)

    def test_within_the_retention_every_version_stays(
        self, store: DeltaOfflineStore, upkeep: DeltaMaintenance, tmp_path: Path
    ) -> None:
        long_ago(tmp_path)  # it counts when a file left the table, not how old it is
        done = kept(store, upkeep)
        assert (done.days, done.deleted) == (3, 0)
        assert len(every_id(store, 16)) == 16

    def test_what_a_crashed_writer_left_goes_when_it_is_old(
        self, store: DeltaOfflineStore, upkeep: DeltaMaintenance, tmp_path: Path
    ) -> None:
        day = tmp_path / SOLD.name / "event_date=2013-01-01"
        young, old = day / "part-young.parquet", day / "part-old.parquet"
        for orphan in (young, old):
            orphan.write_bytes(b"half a file")
        os.utime(old, (0, 0))
        assert kept(store, upkeep).deleted == 1
        assert (young.exists(), old.exists()) == (True, False)
        assert len(every_id(store)) == DAYS * A_DAY


class ConflictsOnce(DeltaMaintenance):
    """Another process is faster, once."""

    met = False

    def compact(self, event: EventType, day: date) -> None:
        """See the port."""
        if not self.met:
            self.met = True
            raise WriteConflict("another process was faster")
        super().compact(event, day)


def test_a_conflict_is_tried_again_by_the_upkeep(
    store: DeltaOfflineStore, upkeep: DeltaMaintenance, tmp_path: Path
) -> None:
    assert kept(store, ConflictsOnce(str(tmp_path))).files_after == 11


class Interrupted(DeltaMaintenance):
    """Something else happens to the table between the reading of a day and its commit."""

    meanwhile: Callable[[], object]

    def _existing(self, event: EventType) -> DeltaTable:
        table = super()._existing(event)
        self.meanwhile()
        return table


@pytest.fixture
def interrupted(tmp_path: Path, store: DeltaOfflineStore) -> Interrupted:
    return Interrupted(str(tmp_path))


DAY_1, DAY_2 = date(2013, 1, 1), date(2013, 1, 2)


@pytest.mark.parametrize("day", [DAY_1, DAY_2])
def test_of_two_upkeeps_at_once_one_is_refused_and_no_row_is_doubled(
    store: DeltaOfflineStore, upkeep: DeltaMaintenance, interrupted: Interrupted, day: date
) -> None:
    interrupted.meanwhile = lambda: upkeep.compact(SOLD, DAY_1)
    with pytest.raises(WriteConflict):
        interrupted.compact(SOLD, day)
    assert len(every_id(store)) == DAYS * A_DAY


def test_a_late_event_of_the_day_is_not_lost_to_a_rewrite(
    store: DeltaOfflineStore, interrupted: Interrupted
) -> None:
    interrupted.meanwhile = lambda: store.append(batch(sale("20"), start=20))
    with pytest.raises(WriteConflict):
        interrupted.compact(SOLD, DAY_1)
    assert len(every_id(store)) == DAYS * A_DAY + 1


def test_an_append_to_another_day_does_not_disturb_a_rewrite(
    store: DeltaOfflineStore, interrupted: Interrupted
) -> None:
    interrupted.meanwhile = lambda: store.append(batch(sale("20", 9 * SECONDS_A_DAY), start=20))
    interrupted.compact(SOLD, DAY_1)
    assert len(every_id(store)) == DAYS * A_DAY + 1


class MeetsARewrite(DeltaOfflineStore):
    """The upkeep commits between the writer's look at its positions and its commit."""

    upkeep: DeltaMaintenance
    days: list[date]

    def _commit(self, table: DeltaTable, batch: EventBatch) -> None:
        if self.days:
            self.upkeep.compact(batch.event, self.days.pop())
        super()._commit(table, batch)


@pytest.mark.parametrize("day", [DAY_1, DAY_2])
def test_an_append_that_meets_a_rewrite_goes_in_all_the_same(
    store: DeltaOfflineStore, upkeep: DeltaMaintenance, tmp_path: Path, day: date
) -> None:
    writer = MeetsARewrite(str(tmp_path), [SOLD])
    writer.upkeep, writer.days = upkeep, [day, day]
    writer.append(batch(sale("20"), start=20))
    assert writer.days == []
    assert store.positions([SOLD.name]) == {P0: 21}
    assert len(every_id(store)) == DAYS * A_DAY + 1


@pytest.mark.fault
def test_two_upkeeps_beside_a_writer_cost_no_row_and_no_commit_of_the_writer(
    store: DeltaOfflineStore, upkeep: DeltaMaintenance, tmp_path: Path
) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    other = subprocess.Popen([sys.executable, "-c", _UPKEEP, str(tmp_path)])
    rules = CompactionRules(closed_after_us=0, retention_hours=1)
    days = 0

    def maintained_until_the_writer_ends() -> bool:
        nonlocal days
        days += kept(store, upkeep, rules).days
        return writer.poll() is not None

    wait_until(maintained_until_the_writer_ends, what="the writer ends", limit_s=300)
    other.kill()
    other.wait()
    assert writer.communicate()[0].split() == ["refused", "0"]
    assert days > 10
    offsets = store.read(SOLD, columns=["offset"])["offset"].to_list()
    assert sorted(offsets) == list(range(_ROWS))


def long_ago(root: Path) -> None:
    for file in root.rglob("*.parquet"):
        os.utime(file, (time.time() - HOUR // 1_000_000 * 50,) * 2)


_ROWS = 620
_WRITER = textwrap.dedent("""
    import sys
    from tests.contract.test_offline_store import P0, SECONDS_A_DAY, batch
    from tests.support.data.sales import SOLD, sale
    from features.stores.delta.store import DeltaOfflineStore
    from features.errors import FeatureError
    store, refused = DeltaOfflineStore(sys.argv[1], [SOLD]), 0
    while (at := store.positions([SOLD.name])[P0]) < 620:
        try:
            some = [sale(str(at + i), (5 + at // 20) * SECONDS_A_DAY + at) for i in range(2)]
            store.append(batch(*some, start=at))
        except FeatureError as error:
            print(error, file=sys.stderr)
            refused += 1
    print("refused", refused)
""")
_UPKEEP = textwrap.dedent("""
    import sys
    from tests.contract.test_offline_maintenance import CompactionRules, kept
    from tests.support.data.sales import SOLD
    from features.stores.delta.store import DeltaOfflineStore
    from features.stores.delta.maintenance import DeltaMaintenance
    store, upkeep = DeltaOfflineStore(sys.argv[1], [SOLD]), DeltaMaintenance(sys.argv[1])
    while True:
        kept(store, upkeep, CompactionRules(closed_after_us=0, retention_hours=1))
""")

"""Maintenance changes no row, no position and no pinned version, and never blocks a writer."""

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
from tests.support.data.sales import SOLD, sale
from tests.support.offline_batches import SECONDS_A_DAY, batch, ids
from tests.support.stores import P0
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

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
def maintenance(tmp_path: Path, store: DeltaOfflineStore) -> DeltaMaintenance:
    return DeltaMaintenance(str(tmp_path))


def run_maintenance(
    store: DeltaOfflineStore, maintenance: DeltaMaintenance, rules: CompactionRules = RULES
) -> MaintenanceResult:
    return maintain([SOLD], store, maintenance, rules=rules, on_progress=lambda _: None)[0]


def every_id(store: DeltaOfflineStore, version: int | None = None) -> list[str]:
    return ids(store.read(SOLD, columns=["event_id"], version=version))


def test_closed_days_become_one_file_and_nothing_else_changes(
    store: DeltaOfflineStore, maintenance: DeltaMaintenance, tmp_path: Path
) -> None:
    columns = [*SOLD.fields, "known_at_us", "ingest_time_us", "partition", "offset"]
    rows_before = store.read(SOLD, columns=columns).sort("offset")
    result = run_maintenance(store, maintenance)
    assert (result.days, result.files_before, result.files_after) == (3, 20, 11)
    assert sorted(maintenance.days_to_compact(SOLD)) == [
        date(2013, 1, 4),
        date(2013, 1, 5),
    ]  # late events may still arrive
    assert store.read(SOLD, columns=columns).sort("offset").equals(rows_before)
    fresh = DeltaOfflineStore(str(tmp_path), [SOLD])
    assert fresh.positions([SOLD.name]) == {P0: 20}
    assert fresh.newest_known_at_us(SOLD) == rows_before["known_at_us"].max()
    store.append(batch(sale("20"), start=20))  # by the handle opened before
    assert len(every_id(fresh)) == 21


def test_a_second_run_changes_nothing(
    store: DeltaOfflineStore, maintenance: DeltaMaintenance
) -> None:
    run_maintenance(store, maintenance)
    version = store.version(SOLD)
    second_run = run_maintenance(store, maintenance)
    assert store.version(SOLD) == version
    assert (second_run.days, second_run.deleted, second_run.files_after) == (
        0,
        0,
        second_run.files_before,
    )


def test_maintenance_skips_a_table_that_does_not_exist(tmp_path: Path) -> None:
    root = str(tmp_path / "none")
    maintenance = DeltaMaintenance(root)
    store = DeltaOfflineStore(root, [SOLD])
    assert maintain([SOLD], store, maintenance, rules=RULES, on_progress=lambda _: None) == []


class TestVacuum:
    """What may be deleted, and what must not be."""

    def test_a_vacuum_keeps_the_files_of_pinned_versions_only(
        self, store: DeltaOfflineStore, maintenance: DeltaMaintenance
    ) -> None:
        pinned, unpinned = 6, 16
        pinned_ids = every_id(store, pinned)
        store.pin(SOLD, pinned, "training")
        run_maintenance(store, maintenance)
        assert maintenance.vacuum(SOLD, retention_hours=0, keep={pinned}) > 0
        assert every_id(store, pinned) == pinned_ids
        with pytest.raises(StoreUnavailable):
            store.read(SOLD, columns=["cents"], version=unpinned)
        assert len(every_id(store)) == DAYS * A_DAY

    def test_pinned_versions_survive_many_checkpoints_of_the_log(
        self, store: DeltaOfflineStore, maintenance: DeltaMaintenance
    ) -> None:
        pinned_ids = every_id(store, 3)
        for n in range(20, 26):
            maintenance.checkpoint(SOLD)
            store.append(batch(sale(f"{n}", 9 * SECONDS_A_DAY), start=n))
            run_maintenance(store, maintenance)
            maintenance.vacuum(SOLD, retention_hours=0, keep={3, n - 2})
        assert every_id(store, 3) == pinned_ids

    def test_a_vacuum_deletes_the_files_of_a_released_pin(
        self, store: DeltaOfflineStore, maintenance: DeltaMaintenance
    ) -> None:
        store.pin(SOLD, 6, "training")
        run_maintenance(store, maintenance)
        maintenance.vacuum(SOLD, retention_hours=0, keep={p.version for p in store.pins()})
        store.unpin("training")
        assert (
            maintenance.vacuum(SOLD, retention_hours=0, keep={p.version for p in store.pins()}) > 0
        )
        with pytest.raises(StoreUnavailable):
            store.read(SOLD, columns=["cents"], version=6)

    def test_every_version_within_the_retention_is_kept(
        self, store: DeltaOfflineStore, maintenance: DeltaMaintenance, tmp_path: Path
    ) -> None:
        long_ago(tmp_path)  # it counts when a file left the table, not how old it is
        result = run_maintenance(store, maintenance)
        assert (result.days, result.deleted) == (3, 0)
        assert len(every_id(store, 16)) == 16

    def test_an_old_orphan_file_of_a_crashed_writer_is_deleted(
        self, store: DeltaOfflineStore, maintenance: DeltaMaintenance, tmp_path: Path
    ) -> None:
        day = tmp_path / SOLD.name / "event_date=2013-01-01"
        young, old = day / "part-young.parquet", day / "part-old.parquet"
        for orphan in (young, old):
            orphan.write_bytes(b"half a file")
        os.utime(old, (0, 0))
        assert run_maintenance(store, maintenance).deleted == 1
        assert (young.exists(), old.exists()) == (True, False)
        assert len(every_id(store)) == DAYS * A_DAY


class ConflictsOnce(DeltaMaintenance):
    """The first compaction loses a race against another process."""

    met = False

    def compact(self, event: EventType, day: date) -> None:
        if not self.met:
            self.met = True
            raise WriteConflict("another process was faster")
        super().compact(event, day)


def test_maintenance_retries_after_a_write_conflict(
    store: DeltaOfflineStore, maintenance: DeltaMaintenance, tmp_path: Path
) -> None:
    assert run_maintenance(store, ConflictsOnce(str(tmp_path))).files_after == 11


class Interrupted(DeltaMaintenance):
    """Calls `meanwhile` between the reading of a day and its commit."""

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
def test_of_two_concurrent_maintenance_runs_one_is_refused_and_no_row_is_duplicated(
    store: DeltaOfflineStore, maintenance: DeltaMaintenance, interrupted: Interrupted, day: date
) -> None:
    interrupted.meanwhile = lambda: maintenance.compact(SOLD, DAY_1)
    with pytest.raises(WriteConflict):
        interrupted.compact(SOLD, day)
    assert len(every_id(store)) == DAYS * A_DAY


def test_a_late_event_is_not_lost_when_its_day_is_compacted(
    store: DeltaOfflineStore, interrupted: Interrupted
) -> None:
    interrupted.meanwhile = lambda: store.append(batch(sale("20"), start=20))
    with pytest.raises(WriteConflict):
        interrupted.compact(SOLD, DAY_1)
    assert len(every_id(store)) == DAYS * A_DAY + 1


def test_an_append_to_another_day_does_not_conflict_with_a_compaction(
    store: DeltaOfflineStore, interrupted: Interrupted
) -> None:
    interrupted.meanwhile = lambda: store.append(batch(sale("20", 9 * SECONDS_A_DAY), start=20))
    interrupted.compact(SOLD, DAY_1)
    assert len(every_id(store)) == DAYS * A_DAY + 1


class MeetsARewrite(DeltaOfflineStore):
    """Maintenance commits between the writer's read of its positions and its commit."""

    maintenance: DeltaMaintenance
    days: list[date]

    def _commit(self, table: DeltaTable, batch: EventBatch) -> None:
        if self.days:
            self.maintenance.compact(batch.event, self.days.pop())
        super()._commit(table, batch)


@pytest.mark.parametrize("day", [DAY_1, DAY_2])
def test_an_append_during_a_compaction_succeeds(
    store: DeltaOfflineStore, maintenance: DeltaMaintenance, tmp_path: Path, day: date
) -> None:
    writer = MeetsARewrite(str(tmp_path), [SOLD])
    writer.maintenance, writer.days = maintenance, [day, day]
    writer.append(batch(sale("20"), start=20))
    assert writer.days == []
    assert store.positions([SOLD.name]) == {P0: 21}
    assert len(every_id(store)) == DAYS * A_DAY + 1


@pytest.mark.fault
def test_two_maintenance_runs_beside_a_writer_lose_no_row_and_refuse_no_commit(
    store: DeltaOfflineStore, maintenance: DeltaMaintenance, tmp_path: Path
) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    maintainer = subprocess.Popen([sys.executable, "-c", _MAINTAINER, str(tmp_path)])
    rules = CompactionRules(closed_after_us=0, retention_hours=1)
    days = 0

    def maintained_until_the_writer_ends() -> bool:
        nonlocal days
        days += run_maintenance(store, maintenance, rules).days
        if days > 10:
            (tmp_path / ENOUGH).touch()
        return writer.poll() is not None

    wait_until(maintained_until_the_writer_ends, what="the writer ends", limit_s=300)
    maintainer.kill()
    maintainer.wait()
    assert writer.communicate()[0].split() == ["refused", "0"]
    assert days > 10
    offsets = store.read(SOLD, columns=["offset"])["offset"].to_list()
    assert len(offsets) >= _ROWS
    assert sorted(offsets) == list(range(len(offsets)))
    assert store.positions([SOLD.name]) == {P0: len(offsets)}


def long_ago(root: Path) -> None:
    for file in root.rglob("*.parquet"):
        os.utime(file, (time.time() - HOUR // 1_000_000 * 50,) * 2)


_ROWS = 620  # at least; the writer goes on until maintenance has rewritten enough beside it
ENOUGH = "enough"
_WRITER = textwrap.dedent("""
    import sys
    from pathlib import Path
    from tests.support.offline_batches import SECONDS_A_DAY, batch
    from tests.support.stores import P0
    from tests.support.data.sales import SOLD, sale
    from features.stores.delta.store import DeltaOfflineStore
    from features.errors import FeatureError
    store, refused = DeltaOfflineStore(sys.argv[1], [SOLD]), 0
    enough = Path(sys.argv[1], "enough")
    while (at := store.positions([SOLD.name])[P0]) < 620 or not enough.exists():
        try:
            sales = [sale(str(at + i), (5 + at // 20) * SECONDS_A_DAY + at) for i in range(2)]
            store.append(batch(*sales, start=at))
        except FeatureError as error:
            print(error, file=sys.stderr)
            refused += 1
    print("refused", refused)
""")
_MAINTAINER = textwrap.dedent("""
    import sys
    from tests.contract.test_offline_maintenance import CompactionRules, run_maintenance
    from tests.support.data.sales import SOLD
    from features.stores.delta.store import DeltaOfflineStore
    from features.stores.delta.maintenance import DeltaMaintenance
    store, maintenance = DeltaOfflineStore(sys.argv[1], [SOLD]), DeltaMaintenance(sys.argv[1])
    while True:
        run_maintenance(
            store, maintenance, CompactionRules(closed_after_us=0, retention_hours=1)
        )
""")

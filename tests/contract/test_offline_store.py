"""What every offline store promises."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import msgspec
import polars as pl
import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError

from features.definitions import EventType
from features.errors import OffsetConflict, SchemaChanged, StoreUnavailable
from features.stores.delta.store import DeltaOfflineStore
from features.stores.delta.tables import arrow_of
from features.stores.log_entries import origins_of
from features.stores.memory import MemoryOfflineStore
from features.stores.ports import META, AcceptedGap, EventBatch, LogEntry, OfflineStore, Pin
from infra.clock import DAY, SECOND
from infra.kafka.logs import LogOrigin
from infra.kafka.partitions import Partition
from tests.support.data.sales import SOLD, START_US, sale
from tests.support.offline_batches import SECONDS_A_DAY, batch, ids
from tests.support.stores import P0, P1

# An optional bucket to run the contract on too: {"root": "s3://...", "options": {...}}.
BUCKET = json.loads(os.environ.get("EVENTIDE_TEST_BUCKET", "null"))


@pytest.fixture(params=["memory", "delta", *(["bucket"] if BUCKET else [])])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> OfflineStore:
    if request.param == "memory":
        return MemoryOfflineStore()
    if request.param == "bucket":
        root = f"{BUCKET['root']}/{uuid4()}"
        return DeltaOfflineStore(root, [SOLD], options=BUCKET["options"])
    return DeltaOfflineStore(str(tmp_path / "offline"), [SOLD])


def changed(**fields: Any) -> EventType:
    """`SOLD` with other fields: name -> type, or (type, default), or "gone"."""
    declared = {
        "event_id": (str,),
        "event_time_us": (int,),
        "shop": (str,),
        "city": (str | None, None),
        "cents": (int, 0),
        "weight": (float | None, None),
    }
    remaining = {name: spec for name, spec in (declared | fields).items() if spec != "gone"}
    record = msgspec.defstruct("Sold", [(n, *spec) for n, spec in remaining.items()], kw_only=True)
    return replace(SOLD, record=record)


def files(root: Path) -> pl.DataFrame:
    """The files of a Delta table, with their statistics from its log."""
    actions = DeltaTable(str(root / SOLD.name)).get_add_actions(flatten=True)
    return pl.DataFrame(pa.table(actions).to_pydict())


def test_a_new_store_is_empty_and_can_be_read(store: OfflineStore) -> None:
    assert store.positions([SOLD.name]) == {}
    assert store.version(SOLD) is None
    assert store.newest_known_at_us(SOLD) is None
    rows = store.read(SOLD, columns=["event_id", "weight", "offset"])
    assert rows.columns == ["event_id", "weight", "offset"]
    assert rows.height == 0


def test_rows_come_back_as_they_went_in(store: OfflineStore) -> None:
    appended = sale("é", 3, known=4, shop="a\x1fb", city=None, cents=-7, weight=0.1)
    store.append(batch(appended, sale("2", city="y"), start=0))
    rows = store.read(SOLD, columns=[*SOLD.fields, "known_at_us", "partition", "offset"])
    assert rows.sort("offset").row(0, named=True) == {
        "event_id": "é",
        "event_time_us": appended.happened_us,
        "shop": "a\x1fb",
        "city": None,
        "cents": -7,
        "weight": 0.1,
        "known_at_us": appended.known_us,
        "partition": 0,
        "offset": 0,
    }


def test_truth_values_and_the_largest_integers_are_stored(tmp_path: Path) -> None:
    record = msgspec.defstruct(
        "Made",
        [
            ("event_id", str),
            ("event_time_us", int),
            ("yes", bool),
            ("maybe", bool | None),
            ("n", int),
        ],
        kw_only=True,
    )
    event = EventType(name="made.event", record=record, key="event_id")
    columns: dict[str, Any] = {
        "event_id": ["a", "b", "c"],
        "event_time_us": [START_US] * 3,
        "yes": [True, False, True],
        "maybe": [None, True, False],
        "n": [2**63 - 1, -(2**63), 0],
        **{name: [0, 1, 2] for name in META},
    }
    place = Partition(event.name, 0)
    for store in (MemoryOfflineStore(), DeltaOfflineStore(str(tmp_path / "offline"), [event])):
        store.append(EventBatch(event=event, columns=columns, starts={place: 0}, ends={place: 3}))
        rows = store.read(event, columns=["yes", "maybe", "n", "offset"]).sort("offset")
        assert rows["yes"].to_list() == [1, 0, 1]
        assert rows["maybe"].to_list() == [None, 1, 0]
        assert rows["n"].to_list() == columns["n"]


def test_an_append_from_a_wrong_position_changes_nothing(store: OfflineStore) -> None:
    store.append(batch(sale("1"), sale("2")))
    for start in (0, 1, 3):
        with pytest.raises(OffsetConflict) as caught:
            store.append(batch(sale("3"), start=start))
        conflict = caught.value
        assert (conflict.partition, conflict.expected, conflict.actual) == (P0, start, 2)
    assert store.positions([SOLD.name]) == {P0: 2}
    assert ids(store.read(SOLD, columns=["event_id"])) == ["1", "2"]


def test_positions_may_have_gaps_and_advance_without_rows(store: OfflineStore) -> None:
    store.append(batch(sale("1"), start=0, end=5))
    store.append(batch(start=5, end=9))
    store.append(batch(sale("2"), partition=P1))
    assert store.positions([SOLD.name]) == {P0: 9, P1: 1}


def test_a_topic_may_have_more_partitions_than_were_declared(store: OfflineStore) -> None:
    """Its positions are known again to another handle: else its events would be stored twice."""
    added = Partition(SOLD.name, SOLD.partitions + 2)
    store.append(batch(sale("1"), start=0))
    store.append(batch(sale("2"), start=0, partition=added))
    store.append(batch(sale("3"), start=1))
    assert store.positions([SOLD.name]) == {P0: 2, added: 1}
    snapshot = store.snapshot(SOLD)
    assert snapshot is not None
    assert snapshot.positions == {P0: 2, added: 1}


def test_spans_of_event_time_are_half_open(store: OfflineStore) -> None:
    days = [sale(str(d), d * SECONDS_A_DAY) for d in range(5)]
    store.append(batch(*days))
    in_span = store.read(
        SOLD,
        columns=["event_id"],
        event_from_us=days[1].happened_us,
        event_until_us=days[3].happened_us,
    )
    assert ids(in_span) == ["1", "2"]
    later = store.read(SOLD, columns=["event_id"], event_from_us=days[3].happened_us + 1)
    assert ids(later) == ["4"]


def test_events_known_since_a_time_are_read_whenever_they_happened(store: OfflineStore) -> None:
    early, late = sale("early", 1, known=8), sale("late", SECONDS_A_DAY, known=9)
    store.append(batch(early, late, sale("1", 7), start=0))
    for known, expected in ((7, ["1", "early", "late"]), (8, ["early", "late"]), (9, ["late"])):
        rows = store.read(SOLD, columns=["event_id"], known_from_us=START_US + known * SECOND)
        assert sorted(rows["event_id"].to_list()) == expected


def test_a_version_always_reads_the_same(store: OfflineStore) -> None:
    store.append(batch(sale("1", 1, known=8)))
    version = store.version(SOLD)
    store.append(batch(sale("2", 2, known=9), start=1))
    assert version is not None
    assert store.version(SOLD) != version
    assert ids(store.read(SOLD, columns=["event_id"], version=version)) == ["1"]
    assert store.newest_known_at_us(SOLD, version=version) == START_US + 8 * SECOND
    assert store.newest_known_at_us(SOLD) == START_US + 9 * SECOND


class TestChangedEvents:
    """Tables follow a new optional field, and nothing else."""

    def test_a_new_optional_field_has_its_default_in_old_rows(self, store: OfflineStore) -> None:
        wider = changed(channel=(str | None, None), items=(int, 1))
        store.append(batch(sale("1")))
        old_rows = store.read(wider, columns=["event_id", "channel", "items"])
        assert old_rows.rows() == [("1", None, 1)]
        assert store.read(wider, columns=["items"]).rows() == [(1,)]

        new = batch(sale("2"), start=1, event=wider, channel=["web"], items=[3])
        store.append(new)
        rows = store.read(wider, columns=["event_id", "channel", "items", "weight"])
        assert rows.sort("event_id").rows() == [("1", None, 1, None), ("2", "web", 3, None)]
        store.append(batch(sale("3"), start=2, event=wider, channel=[None], items=[4]))
        assert ids(store.read(wider, columns=["event_id"])) == ["1", "2", "3"]

    def test_an_old_version_is_read_with_the_default_of_a_new_field(
        self, store: OfflineStore
    ) -> None:
        wider = changed(weighed=(float | None, None), items=(int, 1))
        store.append(batch(sale("1")))
        version = store.version(SOLD)
        store.append(batch(sale("2"), start=1, event=wider, weighed=[0.5], items=[2]))
        rows = store.read(wider, columns=["weighed", "event_id", "items"], version=version)
        assert rows.rows() == [(None, "1", 1)]

    @pytest.mark.parametrize(
        ("event", "field", "why"),
        [
            (lambda: changed(weight="gone"), "weight", "no longer"),
            (lambda: changed(weight="gone", kilos=(float | None, None)), "weight", "no longer"),
            (lambda: changed(cents=(float, 0.0)), "cents", "is float in its record and int in"),
            (lambda: changed(city=(int | None, None)), "city", "is int in its record and text in"),
            (lambda: changed(city=(str, "")), "city", "is text in its record and text or null in"),
            (lambda: changed(weight=(float, 0.0)), "weight", "a number or null in its table"),
            (lambda: changed(cents=(bool, False)), "cents", "is a truth value in its record and a"),
            (lambda: changed(till=(int,)), "till", "has no default"),
            (lambda: changed(till=(int | None, 7)), "till", "its default has to be null"),
        ],
    )
    def test_any_other_change_is_refused_before_anything_is_written(
        self, store: OfflineStore, event: Callable[[], EventType], field: str, why: str
    ) -> None:
        store.append(batch(sale("1")))
        changed_event = event()
        with pytest.raises(SchemaChanged) as caught:
            store.append(
                batch(sale("2"), start=1, event=changed_event, **cast("Any", {field: [1]}))
            )
        assert f"event {SOLD.name}: the field '{field}'" in str(caught.value)
        assert why in str(caught.value)
        assert "another name" in (caught.value.hint or "")
        for refused in (
            lambda: store.read(changed_event, columns=["event_id"]),
            lambda: store.version(changed_event),
            lambda: store.newest_known_at_us(changed_event),
        ):
            with pytest.raises(SchemaChanged):
                refused()
        assert store.positions([SOLD.name]) == {P0: 1}
        assert ids(store.read(SOLD, columns=["event_id"])) == ["1"]

    def test_a_field_may_become_null_and_must_not_cease_to(self, store: OfflineStore) -> None:
        nullable = changed(cents=(int | None, None))
        store.append(batch(sale("1", cents=7)))
        store.append(batch(sale("2"), start=1, event=nullable, cents=[None]))
        rows = store.read(nullable, columns=["event_id", "cents"])
        assert rows.sort("event_id").rows() == [("1", 7), ("2", None)]
        for event in (SOLD, changed(cents=(int,))):
            with pytest.raises(SchemaChanged, match="'cents' is a whole number in its record and"):
                store.read(event, columns=["cents"])


def test_a_snapshot_has_the_positions_of_its_version(store: OfflineStore) -> None:
    assert store.snapshot(SOLD) is None
    store.append(batch(sale("1"), sale("2", SECONDS_A_DAY)))
    snapshot = store.snapshot(SOLD)
    assert snapshot is not None
    store.append(batch(sale("3", SECONDS_A_DAY, known=SECONDS_A_DAY + 7), start=2))
    store.append(batch(end=9, partition=P1))

    assert snapshot.positions == {P0: 2}
    assert store.read(SOLD, columns=["offset"], version=snapshot.version).height == 2
    assert [n for _, n in sorted(snapshot.rows.items())] == [1, 1]
    later = store.snapshot(SOLD)
    assert later is not None
    assert later.positions == {P0: 3, P1: 9}
    assert later.newest_known_at_us == START_US + DAY + 7 * SECOND
    assert [n for _, n in sorted(later.rows.items())] == [1, 2]


def test_a_snapshot_of_a_table_without_rows_has_positions(store: OfflineStore) -> None:
    store.append(batch(end=3))
    snapshot = store.snapshot(SOLD)
    assert snapshot is not None
    assert (snapshot.positions, snapshot.newest_known_at_us, dict(snapshot.rows)) == (
        {P0: 3},
        None,
        {},
    )


def test_a_repeated_pin_is_stored_once_and_released_by_name(store: OfflineStore) -> None:
    assert list(store.pins()) == []
    store.append(batch(sale("1")))
    version = store.version(SOLD)
    assert version is not None
    for name in ("a'b/1", "a'b/1", "c/2"):
        store.pin(SOLD, version, name)
    first, second = (Pin(event=SOLD.name, version=version, name=n) for n in ("a'b/1", "c/2"))
    assert list(store.pins()) == [first, second]
    store.unpin("a'b/1")
    store.unpin("nobody's")
    assert list(store.pins()) == [second]


def test_a_missing_version_cannot_be_pinned(store: OfflineStore) -> None:
    store.append(batch(sale("1")))
    with pytest.raises(StoreUnavailable):
        store.pin(SOLD, 99, "a")
    assert list(store.pins()) == []


class TestDelta:
    """What only tables on disk have to promise."""

    def test_another_handle_sees_every_commit(self, tmp_path: Path) -> None:
        first, second = (DeltaOfflineStore(str(tmp_path), [SOLD]) for _ in range(2))
        first.append(batch(sale("1")))
        assert second.positions([SOLD.name]) == {P0: 1}
        second.append(batch(sale("2"), start=1))
        first.append(batch(sale("3"), start=2))
        assert ids(second.read(SOLD, columns=["event_id"])) == ["1", "2", "3"]

    def test_positions_survive_checkpoints_and_reopening(self, tmp_path: Path) -> None:
        store = DeltaOfflineStore(str(tmp_path), [SOLD], commits_before_reopening=5)
        for n in range(12):
            store.append(batch(sale(str(n)), start=n))
        assert len(list(tmp_path.rglob("*.checkpoint.parquet"))) == 2
        assert DeltaOfflineStore(str(tmp_path), [SOLD]).positions([SOLD.name]) == {P0: 12}

    @pytest.mark.fault
    def test_two_processes_on_one_partition_write_each_row_once(self, tmp_path: Path) -> None:
        writers = [
            subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], text=True)
            for _ in range(2)
        ]
        assert [w.wait(120) for w in writers] == [0, 0]
        store = DeltaOfflineStore(str(tmp_path), [SOLD])
        offsets = store.read(SOLD, columns=["offset"])["offset"].to_list()
        assert sorted(offsets) == list(range(60))

    def test_rows_are_partitioned_by_day(self, tmp_path: Path) -> None:
        DeltaOfflineStore(str(tmp_path), [SOLD]).append(
            batch(sale("1"), sale("2", 2 * SECONDS_A_DAY))
        )
        days = files(tmp_path)["partition.event_date"]
        assert sorted(str(d) for d in days) == ["2013-01-01", "2013-01-03"]

    def test_files_have_statistics_of_their_times_only(self, tmp_path: Path) -> None:
        DeltaOfflineStore(str(tmp_path), [SOLD]).append(batch(sale("1", 5, known=7), sale("2", 3)))
        (file,) = files(tmp_path).to_dicts()
        statistics = {
            name: value for name, value in file.items() if name.startswith(("min.", "max."))
        }
        assert {name: value for name, value in statistics.items() if value is not None} == {
            "min.event_time_us": START_US + 3 * SECOND,
            "max.event_time_us": START_US + 5 * SECOND,
            "min.known_at_us": START_US + 3 * SECOND,
            "max.known_at_us": START_US + 7 * SECOND,
        }

    def test_files_are_small_and_another_engine_reads_them(self, tmp_path: Path) -> None:
        sales = [sale(str(n), n) for n in range(1_000)]
        DeltaOfflineStore(str(tmp_path), [SOLD]).append(batch(*sales))
        (file,) = tmp_path.rglob("*.parquet")
        assert file.stat().st_size < 8 * len(
            sales
        )  # five numbers and an id, 40 bytes or more uncompressed
        rows = DeltaTable(str(tmp_path / SOLD.name)).to_pyarrow_table().sort_by("offset")
        assert rows["event_time_us"].to_pylist() == [s.happened_us for s in sales]
        assert rows["event_id"].to_pylist() == [s.id for s in sales]

    def test_files_outside_a_span_are_not_opened(self, tmp_path: Path) -> None:
        store = DeltaOfflineStore(str(tmp_path), [SOLD])
        store.append(batch(sale("1", 10)))
        (outside,) = tmp_path.rglob("*.parquet")
        store.append(batch(sale("2", 20), start=1))
        outside.unlink()
        later = store.read(SOLD, columns=["event_id"], event_from_us=START_US + 11 * SECOND)
        assert ids(later) == ["2"]
        with pytest.raises(StoreUnavailable):
            store.read(SOLD, columns=["event_id"])

    def test_a_table_of_0_1_shows_by_its_nulls_that_a_field_was_null(self, tmp_path: Path) -> None:
        """It does not remember what its fields were declared as, until the next append."""
        narrow = changed(weight=(float,))
        rows = arrow_of(batch(sale("1", weight=None)))
        write_deltalake(tmp_path / SOLD.name, rows, partition_by=["event_date"])
        with pytest.raises(SchemaChanged, match="'weight' is never null in its record, and null"):
            DeltaOfflineStore(str(tmp_path), [narrow]).read(narrow, columns=["weight"])
        DeltaOfflineStore(str(tmp_path), [SOLD]).append(batch(sale("2", weight=1.5)))
        with pytest.raises(SchemaChanged, match="a number or null in its table"):
            DeltaOfflineStore(str(tmp_path), [narrow]).version(narrow)

    def test_a_table_remembers_its_declaration_through_maintenance(self, tmp_path: Path) -> None:
        store = DeltaOfflineStore(str(tmp_path), [SOLD])
        for n in range(3):
            store.append(batch(sale(str(n)), start=n))
        table = DeltaTable(str(tmp_path / SOLD.name))
        table.optimize.compact()
        table.create_checkpoint()
        with pytest.raises(SchemaChanged, match="'weight' is a number in its record"):
            DeltaOfflineStore(str(tmp_path), [SOLD]).version(changed(weight=(float,)))
        assert table.version() == 4  # the table, three appends, a compaction: nothing else

    def test_two_writers_that_widen_a_table_at_once_both_succeed(self, tmp_path: Path) -> None:
        wider = changed(channel=(str | None, None))
        first, second = (DeltaOfflineStore(str(tmp_path), [wider]) for _ in range(2))
        DeltaOfflineStore(str(tmp_path), [SOLD]).append(batch(sale("1")))
        second.positions([SOLD.name])  # it has read the narrow table
        first.append(batch(sale("2"), start=1, event=wider, channel=["a"]))
        second.append(batch(sale("3"), partition=P1, event=wider, channel=["b"]))
        rows = first.read(wider, columns=["event_id", "channel"])
        assert rows.sort("event_id").rows() == [("1", None), ("2", "a"), ("3", "b")]
        assert first.positions([SOLD.name]) == {P0: 2, P1: 1}

    def test_a_writer_with_the_old_record_is_refused_once_the_table_is_wider(
        self, tmp_path: Path
    ) -> None:
        wider = changed(channel=(str | None, None))
        old, new = (DeltaOfflineStore(str(tmp_path), [event]) for event in (SOLD, wider))
        old.append(batch(sale("1")))
        new.append(batch(sale("2"), start=1, event=wider, channel=["a"]))
        with pytest.raises(SchemaChanged, match="'channel' is in its table"):
            old.append(batch(sale("3"), start=2))
        assert new.positions([SOLD.name]) == {P0: 2}

    def test_a_folder_that_cannot_be_written_is_a_clear_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(StoreUnavailable, match="cannot"):
            DeltaOfflineStore(str(tmp_path / "file"), [SOLD]).append(batch(sale("1")))

    def test_the_library_still_refuses_two_commits_of_one_application(self, tmp_path: Path) -> None:
        """`append` relies on this: an upgrade of the library that changes it must be noticed."""
        DeltaOfflineStore(str(tmp_path), [SOLD]).append(batch(sale("1")))
        first, second = (DeltaTable(str(tmp_path / SOLD.name)) for _ in range(2))

        def commit(table: DeltaTable, event_id: str) -> None:
            write_deltalake(
                table,
                arrow_of(batch(sale(event_id), start=1)),
                mode="append",
                commit_properties=CommitProperties(
                    app_transactions=[Transaction("ingest:sold:0", 2)]
                ),
            )

        commit(first, "2")
        with pytest.raises(CommitFailedError):
            commit(second, "3")


_WRITER = textwrap.dedent("""
    import sys
    from tests.support.offline_batches import batch
    from tests.support.stores import P0
    from tests.support.data.sales import SOLD, sale
    from features.stores.delta.store import DeltaOfflineStore
    from features.errors import OffsetConflict
    store = DeltaOfflineStore(sys.argv[1], [SOLD])
    while (at := store.positions([SOLD.name]).get(P0, 0)) < 60:
        try:
            store.append(batch(*(sale(str(at + i)) for i in range(3)), start=at))
        except OffsetConflict:
            pass
""")


def test_entries_about_logs_are_kept_in_order_and_the_newest_one_holds(
    store: OfflineStore,
) -> None:
    assert list(store.log_entries()) == []
    gap = AcceptedGap(
        kind="expired",
        positions={"offline": 3},
        resume={"offline": 9},
        first=9,
        end=20,
        previous_topic_id="a",
        by="me; drop table",
        reason='"why"',
    )
    first = LogEntry(topic="t", partition=0, origin=LogOrigin(topic_id="a"), since_us=1)
    other = LogEntry(topic="t", partition=1, origin=LogOrigin(topic_id="a"), since_us=1)
    later = LogEntry(
        topic="t", partition=0, origin=LogOrigin(topic_id="b", base=7), since_us=0, gap=gap
    )
    store.add_log_entries([first, other])
    store.add_log_entries([later])
    entries = list(store.log_entries())
    assert [e.number for e in entries] == [1, 2, 3]
    assert entries[2].gap == gap
    assert origins_of(entries) == {
        Partition("t", 0): LogOrigin(topic_id="b", base=7),
        Partition("t", 1): LogOrigin(topic_id="a"),
    }

"""`eventide features maintain` beside a live ingest, and an ingest that meets a changed table."""

import json
from datetime import date
from pathlib import Path

from deltalake import DeltaTable, Field
from deltalake.schema import PrimitiveType

from features.bootstrap.stores import open_offline
from features.catalog.flights.events import DEPARTED
from features.stores.delta.maintenance import DeltaMaintenance
from infra.settings import KafkaSettings, Settings
from ml.bootstrap import Trainer
from ml.steps.table import STEP_BY_NAME
from tests.support.data.flight_events import write_synthetic_flights
from tests.support.processes.commands import environment, run
from tests.support.processes.ingest import (
    Source,
    assert_all_in_place,
    audited,
    ingesting,
    reached,
    wait_until_done,
)
from tests.support.servers import kafka_broker
from tests.support.waiting import wait_until

LIMIT_S = 180


def test_maintenance_beside_a_live_ingest_loses_no_event_and_causes_no_error(
    tmp_path: Path,
) -> None:
    with kafka_broker(tmp_path) as broker:
        servers = broker.bootstrap_servers
        kafka = KafkaSettings(bootstrap_servers=servers)
        source = Source(kafka)
        # Each day is compacted as soon as the next day has events.
        env = environment(tmp_path, servers, EVENTIDE_UPKEEP__CLOSED_AFTER_HOURS="0")
        env["EVENTIDE_UPKEEP__RETENTION_HOURS"] = "1"
        with ingesting(tmp_path, servers) as process:
            days = 0
            for _ in range(4):
                for _ in range(6):
                    source.send(1_000, poison_each=300, twice_each=200)
                    wait_until(process.ready, what="ingest is ready", limit_s=LIMIT_S)
                tables = json.loads(run("features", "maintain", "--json", env=env).stdout)
                days += sum(table["days"] for table in tables)
                source.flush()
                wait_until_done(kafka, limit_s=LIMIT_S)
            assert process.stop() == 0
        assert days > 0
        assert "position_moved" not in process.text()
        assert "store_unavailable" not in process.text()
        assert_all_in_place(audited(tmp_path, servers), source)

        run("features", "maintain", env=env)
        tables_again = json.loads(run("features", "maintain", "--json", env=env).stdout)
        assert [table["days"] for table in tables_again] == [0] * len(tables_again)
        assert_all_in_place(audited(tmp_path, servers), source)


def test_ingest_refuses_a_table_that_its_event_no_longer_fits(tmp_path: Path) -> None:
    with kafka_broker(tmp_path) as broker:
        servers = broker.bootstrap_servers
        kafka = KafkaSettings(bootstrap_servers=servers)
        source = Source(kafka)
        with ingesting(tmp_path, servers) as process:
            source.send(300)
            source.flush()
            wait_until_done(kafka, limit_s=LIMIT_S)
            assert process.stop() == 0
            reached_before = reached(kafka)
            table = DeltaTable(str(tmp_path / "offline" / "flight.scheduled"))
            table.alter.add_columns([Field("gate", PrimitiveType("string"))])
            source.send(300)
            source.flush()
            process.start()
            assert process.process.wait(LIMIT_S) == 1
        assert "event flight.scheduled: the field 'gate' is in its table" in process.text()
        assert "another name" in process.text()
        assert reached(kafka) == reached_before


def test_maintenance_of_an_empty_installation_reports_that_it_has_no_table(tmp_path: Path) -> None:
    completed = run("features", "maintain", env=environment(tmp_path, "127.0.0.1:1"))
    assert completed.stdout == "the offline store has no table yet\n"
    assert run("features", "pins", env=environment(tmp_path, "127.0.0.1:1")).stdout == ""


def test_a_vacuum_keeps_the_versions_that_a_training_set_was_built_from(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    write_synthetic_flights(settings.offline_store, days=47, flights_a_day=700)
    trainer = Trainer.of("flight_delay", settings)
    extract = STEP_BY_NAME["extract"].run
    snapshot = extract(trainer, day=date(2013, 2, 15))
    assert snapshot == extract(trainer, day=date(2013, 2, 15))  # pinned again: the same pins

    store, maintenance = open_offline(settings), DeltaMaintenance(settings.offline_store)
    pins = {pin.event: pin for pin in store.pins()}
    assert set(pins) >= {"flight.departed", "flight.landed", "flight.scheduled"}
    assert {pin.name for pin in pins.values()} == {f"flight_delay/{snapshot.key}"}
    pin = pins[DEPARTED.name]
    rows = store.read(DEPARTED, columns=["offset"], version=pin.version)
    table_folder = f"{settings.offline_store}/{DEPARTED.name}"
    DeltaTable(table_folder).delete()
    assert maintenance.vacuum(DEPARTED, retention_hours=0, keep={pin.version}) == 0
    assert store.read(DEPARTED, columns=["offset"]).is_empty()
    rows_again = store.read(DEPARTED, columns=["offset"], version=pin.version)
    assert rows_again.sort("offset").equals(rows.sort("offset"))

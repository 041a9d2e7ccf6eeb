"""An audit finds what is wrong: each kind of damage is done on purpose."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable, write_deltalake

from features.catalog.flights.views import ORIGIN_DEPARTURES
from features.engine.view_states import state_of
from features.ingestion.dead_letter_sink import DEAD_LETTERS
from features.stores.lmdb import LmdbOnlineStore
from infra.kafka.topic_reader import read_all
from infra.settings import KafkaSettings
from tests.support.processes.commands import environment, run
from tests.support.processes.ingest import Source, audited, ingesting, wait_until_done
from tests.support.servers import kafka_broker


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, KafkaSettings, Source]]:
    """An installation whose audit is clean."""
    state = tmp_path_factory.mktemp("audit")
    with kafka_broker(state) as broker:
        kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
        source = Source(kafka)
        source.send(2_000, poison_each=500)
        source.flush()
        with ingesting(state, broker.bootstrap_servers) as process:
            wait_until_done(kafka)
            assert process.stop() == 0
        yield state, kafka, source


Site = tuple[Path, KafkaSettings, Source]


def audit_of(site: Site) -> dict[str, Any]:
    return audited(site[0], site[1].bootstrap_servers)


def test_a_sound_installation_is_clean_for_people_and_machines(site: Site) -> None:
    found = audit_of(site)
    assert found["clean"]
    assert found["totals"]["events"]["stored"] == 2_000
    assert found["totals"]["events"]["dead_lettered"] == 4

    shown = run("audit", env=environment(site[0], site[1].bootstrap_servers))
    assert "clean" in shown.stdout
    assert "flight.departed" in shown.stdout


def test_what_is_on_its_way_is_no_fault_unless_asked_for(site: Site) -> None:
    state, kafka, source = site
    source.send(100)
    source.flush()
    env = environment(state, kafka.bootstrap_servers)
    found = json.loads(run("audit", "--json", env=env).stdout)
    assert found["clean"]
    assert not found["settled"]
    assert found["totals"]["events"]["waiting"] == 100
    assert run("audit", "--settled", env=env, ok=False).returncode == 1

    with ingesting(state, kafka.bootstrap_servers) as process:
        wait_until_done(kafka)
        assert process.stop() == 0
    assert audit_of(site)["totals"]["events"]["waiting"] == 0


def test_a_changed_online_value_is_found(site: Site) -> None:
    store = LmdbOnlineStore(str(site[0] / "online"))
    key = (ORIGIN_DEPARTURES.name, [b"EWR"])
    sound = store.get([key])[0][0]
    assert sound is not None
    empty = state_of(ORIGIN_DEPARTURES).empty  # whole, but not what history says
    try:
        _put(store, b"EWR", empty)
        store.close()
        found = audit_of(site)
        assert found["online"]["values_different"] > 0
        assert not found["clean"]
    finally:
        store = LmdbOnlineStore(str(site[0] / "online"))
        _put(store, b"EWR", sound)
        store.close()
    assert audit_of(site)["clean"]


def test_a_row_that_is_gone_is_missing_and_one_too_many_is_doubled(site: Site) -> None:
    table = DeltaTable(str(site[0] / "offline" / "flight.departed"))
    sound = table.version()
    some = table.to_pyarrow_table().slice(0, 3)
    write_deltalake(table, some, mode="append")
    doubled = audit_of(site)
    assert doubled["totals"]["events"]["doubled"] == 3
    assert not doubled["clean"]

    table.restore(sound)
    where = f"partition = {some['partition'][0]} and offset = {some['offset'][0]}"
    table.delete(where)
    missing = audit_of(site)
    assert missing["totals"]["events"]["missing"] == 1
    assert not missing["clean"]
    assert run("audit", env=environment(site[0], site[1].bootstrap_servers), ok=False).returncode

    table.restore(sound)
    assert audit_of(site)["clean"]


def test_a_second_dead_letter_of_one_record_is_doubled(site: Site) -> None:
    _, kafka, source = site
    letter = next(iter(read_all(kafka, [DEAD_LETTERS])))
    source.put(
        DEAD_LETTERS,
        letter.value(),
        key=letter.key(),
        timestamp_ms=0,
        headers=list(letter.headers() or ()),
    )
    source.flush()
    found = audit_of(site)
    assert found["totals"]["events"]["doubled"] == 1
    assert not found["clean"]


def _put(store: LmdbOnlineStore, entity: bytes, value: bytes) -> None:
    """Write a value behind the store's back."""
    from features.stores import lmdb as adapter

    with store._transaction(write=True) as txn:
        prefix = adapter._prefix(ORIGIN_DEPARTURES.name)
        txn.put(prefix + adapter._short(entity), value)

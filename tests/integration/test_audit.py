"""An audit reports each kind of damage; the tests cause it on purpose."""

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
from features.stores.lmdb_keys import value_keys
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


def test_the_audit_of_a_sound_installation_is_clean_as_text_and_as_json(site: Site) -> None:
    audit = audit_of(site)
    assert audit["clean"]
    assert audit["totals"]["events"]["stored"] == 2_000
    assert audit["totals"]["events"]["dead_lettered"] == 4

    completed = run("audit", env=environment(site[0], site[1].bootstrap_servers))
    assert "clean" in completed.stdout
    assert "flight.departed" in completed.stdout


def test_waiting_events_fail_the_audit_only_with_the_settled_option(site: Site) -> None:
    state, kafka, source = site
    source.send(100)
    source.flush()
    env = environment(state, kafka.bootstrap_servers)
    audit = json.loads(run("audit", "--json", env=env).stdout)
    assert audit["clean"]
    assert not audit["settled"]
    assert audit["totals"]["events"]["waiting"] == 100
    assert run("audit", "--settled", env=env, ok=False).returncode == 1

    with ingesting(state, kafka.bootstrap_servers) as process:
        wait_until_done(kafka)
        assert process.stop() == 0
    assert audit_of(site)["totals"]["events"]["waiting"] == 0


def test_a_changed_online_value_is_reported(site: Site) -> None:
    store = LmdbOnlineStore(str(site[0] / "online"))
    key = (ORIGIN_DEPARTURES.name, [b"EWR"])
    sound = store.get([key])[0][0]
    assert sound is not None
    empty = state_of(ORIGIN_DEPARTURES).empty  # a valid value, but not the one that history gives
    try:
        _put(store, b"EWR", empty)
        store.close()
        audit = audit_of(site)
        assert audit["online"]["values_different"] > 0
        assert not audit["clean"]
    finally:
        store = LmdbOnlineStore(str(site[0] / "online"))
        _put(store, b"EWR", sound)
        store.close()
    assert audit_of(site)["clean"]


def test_a_deleted_row_is_reported_missing_and_a_repeated_row_duplicated(site: Site) -> None:
    table = DeltaTable(str(site[0] / "offline" / "flight.departed"))
    sound = table.version()
    rows = table.to_pyarrow_table().slice(0, 3)
    write_deltalake(table, rows, mode="append")
    doubled = audit_of(site)
    assert doubled["totals"]["events"]["doubled"] == 3
    assert not doubled["clean"]

    table.restore(sound)
    predicate = f"partition = {rows['partition'][0]} and offset = {rows['offset'][0]}"
    table.delete(predicate)
    missing = audit_of(site)
    assert missing["totals"]["events"]["missing"] == 1
    assert not missing["clean"]
    assert run("audit", env=environment(site[0], site[1].bootstrap_servers), ok=False).returncode

    table.restore(sound)
    assert audit_of(site)["clean"]


def test_a_second_dead_letter_of_one_record_is_reported_duplicated(site: Site) -> None:
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
    audit = audit_of(site)
    assert audit["totals"]["events"]["doubled"] == 1
    assert not audit["clean"]


def _put(store: LmdbOnlineStore, entity: bytes, value: bytes) -> None:
    """Write a value behind the store's back."""
    with store._transaction(write=True) as txn:
        txn.put(value_keys(ORIGIN_DEPARTURES.name, [entity])[0], value)

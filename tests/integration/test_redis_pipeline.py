"""Lock-step, audit and rebuild work on a Redis cluster as they do on a folder."""

import json
import signal
from pathlib import Path

import pytest

from features.catalog.flights.events import REQUESTED
from features.catalog.flights.services import FLIGHT_DELAY
from infra.settings import KafkaSettings
from tests.support.data.bundles import a_bundle
from tests.support.data.recordings import FOLDER, flights, flights_file
from tests.support.processes.commands import environment, run, running
from tests.support.processes.ingest import audited
from tests.support.processes.serving import outcomes, prepare_site, serving
from tests.support.servers import ValkeyCluster, kafka_broker
from tests.support.waiting import wait_until

EVENING_US = 1_357_070_400_000_000  # 2013-01-01 20:00


def test_a_lock_step_replay_an_audit_and_a_rebuild_work_on_a_cluster(
    tmp_path: Path, valkey_masters: ValkeyCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    valkey_masters.empty()
    monkeypatch.setenv("EVENTIDE_ONLINE_STORE", valkey_masters.url)  # for every process
    flights_file()
    with kafka_broker(tmp_path) as broker:
        servers = broker.bootstrap_servers
        site = prepare_site(KafkaSettings(bootstrap_servers=servers), tmp_path)
        a_bundle(site.bundle, FLIGHT_DELAY)
        env = environment(tmp_path, servers, EVENTIDE_RECORDINGS=str(FOLDER))
        replay = ("replay", "flights", "--until", "2013-01-01T20:00:00Z", "--lockstep", "--wait")
        with running(
            "ingest", "--health-port", "0", env=env, log=tmp_path / "ingest.log"
        ) as ingest:
            with serving(site):
                run(*replay, env=env)
            requests = flights().filter(event=REQUESTED.name)
            predictions = outcomes(site)
            assert len(predictions) == (requests["known_at_us"] < EVENING_US).sum()
            assert all(outcome.features_exact for _, outcome in predictions)
            assert _checked(tmp_path, servers) > 0

            run("features", "rebuild", env=env)
            # Ingest notices by its position, when it next writes.
            run("replay", "flights", "--until", "2013-01-02", "--wait", env=env)
            wait_until(
                lambda: _checked(tmp_path, servers) > 0,
                what="the online store has caught up",
                limit_s=120,
            )
            ingest.send_signal(signal.SIGTERM)
            assert ingest.wait(30) == 0
    assert not (tmp_path / "online").exists()


def _checked(state: Path, servers: str) -> int:
    """How many values of the online store were equal to history; 0 while it is behind."""
    audit = audited(state, servers)
    assert audit["clean"], json.dumps(audit)
    assert audit["online"]["values_different"] == 0
    return int(audit["online"]["values_checked"])

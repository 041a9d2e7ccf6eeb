"""Ingest and serving are killed again and again, and the log is lost once in between."""

import random
from functools import partial
from pathlib import Path

import pytest

from features.catalog.flights.events import DEPARTED, REQUESTED
from features.catalog.flights.services import FLIGHT_DELAY
from infra.settings import KafkaSettings
from tests.support.brokers import create_again
from tests.support.data.bundles import a_bundle
from tests.support.faults import FaultCounts
from tests.support.positions import group_positions
from tests.support.processes.commands import environment, run
from tests.support.processes.ingest import IngestProcess, Source, audited, ingesting, reached
from tests.support.processes.ingest import all_ingested as everything_ingested
from tests.support.processes.serving import (
    ServingProcess,
    Site,
    all_answered,
    outcomes,
    prepare_site,
    serving,
)
from tests.support.servers import kafka_broker
from tests.support.waiting import wait_until

pytestmark = pytest.mark.fault

CHUNK = 400
LIMIT_S = 120
SMALL = {"EVENTIDE_INGEST__MAX_BATCH": "80", "EVENTIDE_INGEST__FLUSH_ROWS": "200"}


def test_nothing_is_lost_or_doubled_beyond_what_was_accepted(
    tmp_path: Path, faults: FaultCounts
) -> None:
    chance = random.Random(5)
    with kafka_broker(tmp_path) as broker:
        kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
        source, site = Source(kafka), prepare_site(kafka, tmp_path)
        a_bundle(site.bundle, FLIGHT_DELAY)
        source.send(3_000)  # so that each partition has some
        kills = tuple(count // 2 for count in faults.lost_log_kills)
        _run_with_kills(site, source, kills, chance)
        create_again(kafka, DEPARTED.name, REQUESTED.name)
        source.send(CHUNK, poison_each=50)
        source.flush()
        assert not audited(tmp_path, broker.bootstrap_servers)["clean"]
        _accept(site)
        rest = tuple(count - done for count, done in zip(faults.lost_log_kills, kills, strict=True))
        _run_with_kills(site, source, rest, chance)
        _assert_nothing_lost_or_doubled(site)


def _run_with_kills(
    site: Site, source: Source, kills: tuple[int, ...], chance: random.Random
) -> None:
    """Kill ingest and serving so many times each under load; at the end all is processed."""
    ingest_kills, serving_kills = kills
    servers = site.kafka.bootstrap_servers
    with (
        ingesting(site.state, servers, **SMALL) as ingest,
        serving(site, max_batch=20) as serve,
    ):
        for n in range(max(kills)):
            source.send(CHUNK, poison_each=67, twice_each=97)
            source.flush()
            _wait_for_progress(site, ingest, serve, chance)
            if n < ingest_kills:
                _kill(ingest)
            if n < serving_kills:
                _kill(serve)
        wait_until(
            partial(_all_done, site, ingest, serve),
            what="everything is processed",
            limit_s=LIMIT_S,
            pause_s=0.3,
            details=lambda: ingest.text()[-2_000:] + serve.text()[-2_000:],
        )
        assert ingest.stop() == serve.stop() == 0


def _wait_for_progress(
    site: Site, ingest: IngestProcess, serve: ServingProcess, chance: random.Random
) -> None:
    stored = reached(site.kafka) + chance.randrange(1, CHUNK // 2)
    answered = _answered(site) + chance.randrange(1, 20)

    def moved() -> bool:
        ingest.restart_if_ended()
        serve.restart_if_ended()
        ingested = reached(site.kafka) >= stored or everything_ingested(site.kafka)
        return ingested and (_answered(site) >= answered or all_answered(site))

    wait_until(moved, what="both move on", limit_s=LIMIT_S, pause_s=0.05)


def _answered(site: Site) -> int:
    return sum(group_positions(site.kafka, site.group).values())


def _all_done(site: Site, ingest: IngestProcess, serve: ServingProcess) -> bool:
    """Both run by then: one that still starts would not notice a SIGTERM, and die of it."""
    ended = ingest.restart_if_ended() or serve.restart_if_ended()
    run_both = bool(ingest.get("/healthz")[0] and serve.get("/healthz")[0])
    return not ended and run_both and everything_ingested(site.kafka) and all_answered(site)


def _kill(process: IngestProcess | ServingProcess) -> None:
    process.kill()
    process.start()


def _accept(site: Site) -> None:
    env = environment(site.state, site.kafka.bootstrap_servers)

    def accepted() -> bool:
        """Not while a killed member's session lasts."""
        command = ("topics", "accept-gap", "--reason", "a test")
        return run(*command, env=env, ok=False).returncode == 0

    wait_until(accepted, what="the gap is accepted", limit_s=60, pause_s=1)


def _assert_nothing_lost_or_doubled(site: Site) -> None:
    report = audited(site.state, site.kafka.bootstrap_servers)
    assert report["clean"], report
    assert report["settled"], report
    assert {e["topic"] for e in report["accepted_gaps"]} == {DEPARTED.name, REQUESTED.name}
    sources = [outcome.source for _, outcome in outcomes(site)]
    assert len(sources) == len(set(sources))

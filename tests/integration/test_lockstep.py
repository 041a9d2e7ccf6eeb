"""A replay in lock-step with real processes, through kills, and its errors when they do not run."""

import signal
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import msgspec
import pytest

from features.bootstrap.stores import open_online
from features.catalog.flights import DOMAIN
from features.catalog.flights.events import REQUESTED
from features.catalog.flights.services import FLIGHT_DELAY
from features.contracts.topics import REPLAY_PROGRESS
from features.replay.replayer import Position
from infra.clock import MILLISECOND
from infra.kafka.admin import TopicSpec, end_offsets, ensure_topics
from infra.kafka.errors import KafkaFailed
from infra.kafka.partitions import has_reached
from infra.kafka.topic_reader import read_all
from infra.settings import KafkaSettings, Settings
from tests.support.data.bundles import a_bundle
from tests.support.data.recordings import FOLDER, flights, flights_file
from tests.support.processes.commands import environment, run, running
from tests.support.processes.serving import Site, all_answered, outcomes, prepare_site, serving
from tests.support.servers import kafka_broker
from tests.support.waiting import wait_until

EVENING_US = 1_357_243_200_000_000  # 2013-01-03 20:00; the first prediction is requested at 09:15
JANUARY_5_US = 1_357_344_000_000_000
JANUARY_20_US = 1_358_640_000_000_000
EVENTS = [event.name for event in DOMAIN.events]


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    """A broker of this module's own: replay sends to topics whose names are declared."""
    with kafka_broker(tmp_path_factory.mktemp("broker")) as broker:
        yield KafkaSettings(bootstrap_servers=broker.bootstrap_servers)


@pytest.fixture(scope="module")
def site(kafka: KafkaSettings, tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = prepare_site(kafka, tmp_path_factory.mktemp("site"))
    a_bundle(site.bundle, FLIGHT_DELAY)
    return site


@pytest.fixture(scope="module")
def env(site: Site) -> dict[str, str]:
    flights_file()
    return environment(site.state, site.kafka.bootstrap_servers, EVENTIDE_RECORDINGS=str(FOLDER))


@pytest.fixture
def ingest(env: dict[str, str], site: Site) -> Iterator[None]:
    log = site.state / "ingest.log"
    with running("ingest", "--health-port", "0", env=env, log=log) as process:
        yield
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def _committed(site: Site) -> int:
    """How many batches were ever committed."""
    return sum(1 for _ in read_all(site.kafka, [REPLAY_PROGRESS]))


def _has_committed(site: Site, more_than: int) -> bool:
    return _committed(site) > more_than


def test_a_killed_lock_step_continues_and_every_event_is_stored_and_answered(
    env: dict[str, str], site: Site, ingest: None
) -> None:
    command = ("replay", "flights", "--until", "2013-01-03T20:00:00Z", "--lockstep")
    log = site.state / "replay.log"
    with serving(site):
        for batches in (1, 4, 10):
            with running(*command, env=env, log=log) as process:
                wait_until(partial(_has_committed, site, batches), what="it moved on", limit_s=60)
                assert process.poll() is None, log.read_text()
                process.kill()
        run(*command, "--wait", env=env)

    recorded = flights().filter(flights()["known_at_us"] < EVENING_US)
    sent = sorted((m.topic(), m.value() or b"") for m in read_all(site.kafka, EVENTS))
    assert sent == sorted(recorded.select("event", "payload").iter_rows())
    with closing(open_online(Settings(state_dir=site.state), readonly=True)) as online:
        assert has_reached(online.positions(), end_offsets(site.kafka, EVENTS))
    assert all_answered(site)
    requested = recorded.filter(event=REQUESTED.name)["event_id"]
    assert sorted(o.event_id or "" for _, o in outcomes(site)) == sorted(requested)


def test_each_batch_was_committed_once(site: Site) -> None:
    positions = [
        msgspec.json.decode(m.value() or b"", type=Position).sent
        for m in read_all(site.kafka, [REPLAY_PROGRESS])
    ]
    assert positions == sorted(set(positions))


def test_without_serving_a_lock_step_ends_with_an_error_that_names_it(
    env: dict[str, str], ingest: None
) -> None:
    night = ("--from", "2013-01-03T20:00:00Z", "--until", "2013-01-04T04:00:00Z")
    # Longer than the running ingest may need for a step on a busy machine.
    completed = run(
        "replay", "flights", *night, "--lockstep", "--patience", "20", env=env, ok=False
    )
    assert completed.returncode == 1
    assert "serving has not written all outcomes" in completed.stderr
    assert REQUESTED.name in completed.stderr
    assert "eventide status" in completed.stderr


def test_without_ingest_a_lock_step_and_a_wait_end_with_an_error_that_names_it(
    env: dict[str, str],
) -> None:
    span = ("--from", "2013-01-02T20:00:00Z", "--until", "2013-01-02T21:00:00Z")
    patience = ("--patience", "2")
    stepping = run("replay", "flights", *span, "--lockstep", *patience, env=env, ok=False)
    waiting = run("replay", "flights", *span, "--wait", *patience, env=env, ok=False)
    assert (stepping.returncode, waiting.returncode) == (1, 1)
    assert "ingest has not applied all sent events" in stepping.stderr
    assert "ingest has not stored all sent events" in waiting.stderr


def test_a_second_replay_overtakes_the_first(env: dict[str, str], site: Site) -> None:
    command = ("replay", "flights", "--from", "2013-01-05", "--until", "2013-01-20")
    log = site.state / "first.log"
    committed_before = _committed(site)
    with running(*command, "--speed", "3600", env=env, log=log) as first:
        wait_until(
            partial(_has_committed, site, committed_before), what="the first sends", limit_s=60
        )
        with running(*command, env=env, log=site.state / "second.log") as second:
            assert first.wait(60) == 1
            assert second.wait(60) == 0
    assert "another replay of 'flights' has started" in log.read_text()
    assert "Traceback" not in log.read_text()
    sent = [
        m
        for m in read_all(site.kafka, EVENTS)
        if JANUARY_5_US <= m.timestamp()[1] * MILLISECOND < JANUARY_20_US
    ]
    recorded = flights()["known_at_us"].is_between(JANUARY_5_US, JANUARY_20_US, closed="left")
    assert len(sent) == recorded.sum()


@pytest.mark.parametrize(
    "setting", [("message.timestamp.type", "LogAppendTime"), ("retention.ms", "1000")]
)
def test_a_topic_that_contradicts_its_declaration_is_refused(
    kafka: KafkaSettings, setting: tuple[str, str]
) -> None:
    name = f"contradicts-{setting[0]}"
    ensure_topics(kafka, [TopicSpec(name=name, partitions=1, config=dict([setting]))])
    declared = {"message.timestamp.type": "CreateTime", "retention.ms": "-1"}
    with pytest.raises(KafkaFailed, match=f"{name} has {setting[0]}={setting[1]}"):
        ensure_topics(kafka, [TopicSpec(name=name, partitions=1, config=declared)])

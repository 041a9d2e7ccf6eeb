"""A replay sends its span once, with the recorded keys and times."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from features.contracts.topics import REPLAY_PROGRESS
from infra.clock import MILLISECOND
from infra.kafka.topic_reader import read_all
from infra.settings import KafkaSettings
from tests.support.data.recordings import FOLDER, flights, flights_file
from tests.support.processes.commands import environment, run, running
from tests.support.servers import Broker, kafka_broker
from tests.support.waiting import wait_until

UNTIL = "2013-01-03"
UNTIL_US = 1_357_171_200_000_000


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker of this module's own: replay sends to topics whose names are declared."""
    with kafka_broker(tmp_path_factory.mktemp("replay")) as started:
        yield started


@pytest.fixture(scope="module")
def env(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    flights_file()
    variables = environment(
        tmp_path_factory.mktemp("state"),
        broker.bootstrap_servers,
        EVENTIDE_RECORDINGS=str(FOLDER),
    )
    run("topics", env=variables)
    return variables


def _sent(broker: Broker) -> list[tuple[str, int, str, bytes]]:
    """(topic, emission time, key, payload) of every sent event."""
    kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
    return sorted(
        (m.topic(), m.timestamp()[1] * MILLISECOND, (m.key() or b"").decode(), m.value() or b"")
        for m in read_all(kafka, flights()["event"].unique().to_list())
    )


def _recorded(until_us: int) -> list[tuple[str, int, str, bytes]]:
    span = flights().filter(flights()["known_at_us"] < until_us)
    return sorted(span.select("event", "known_at_us", "key", "payload").iter_rows())


def test_topics_are_created_once(env: dict[str, str]) -> None:
    second_run = json.loads(run("topics", "--json", env=env).stdout)
    assert second_run["created"] == []
    assert {"flight.landed", "flight.predictions", "ingest.dlq"} <= set(second_run["topics"])


def test_a_span_is_sent_completely_and_a_second_replay_sends_nothing(
    env: dict[str, str], broker: Broker
) -> None:
    first_run = json.loads(run("replay", "flights", "--until", UNTIL, "--json", env=env).stdout)
    second_run = json.loads(run("replay", "flights", "--until", UNTIL, "--json", env=env).stdout)
    assert _sent(broker) == _recorded(UNTIL_US)
    assert first_run["sent"] == second_run["before"] == len(_recorded(UNTIL_US))
    assert second_run["sent"] == 0


def test_a_stopped_replay_says_how_to_continue_and_continues(
    env: dict[str, str], broker: Broker, tmp_path: Path
) -> None:
    span = ("--from", UNTIL, "--until", "2013-01-05", "--speed", "20000")
    log = tmp_path / "replay.log"
    kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
    positions = len(list(read_all(kafka, [REPLAY_PROGRESS])))
    with running("replay", "flights", *span, env=env, log=log) as process:
        wait_until(
            lambda: len(list(read_all(kafka, [REPLAY_PROGRESS]))) > positions,
            what="the first batch is committed",
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 4
    assert "the same command continues" in log.read_text()
    run("replay", "flights", *span, env=env)
    assert _sent(broker) == _recorded(UNTIL_US + 2 * 86_400_000_000)


def test_a_lock_step_without_ingest_is_a_clear_error(env: dict[str, str]) -> None:
    completed = run("replay", "flights", "--until", "2013-01-02", "--lockstep", env=env, ok=False)
    assert completed.returncode == 1
    assert "error:" in completed.stderr
    assert "Traceback" not in completed.stderr


def test_an_unknown_event_or_domain_is_a_clear_error(env: dict[str, str]) -> None:
    event = run("replay", "flights", "--only", "flight.lost", env=env, ok=False)
    domain = run("replay", "trains", env=env, ok=False)
    assert (event.returncode, domain.returncode) == (1, 1)
    assert "flight.lost" in event.stderr
    assert "no domain 'trains'" in domain.stderr


def test_schemas_are_checked_by_command(env: dict[str, str]) -> None:
    assert run("schemas", env=env).stdout == ""

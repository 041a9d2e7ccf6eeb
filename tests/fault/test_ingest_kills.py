"""Ingest and the broker are killed again and again; every event is stored once all the same."""

import random
from pathlib import Path

import pytest

from infra.settings import KafkaSettings
from tests.ingest_process import (
    IngestProcess,
    Source,
    assert_all_in_place,
    audited,
    ingesting,
    reached,
    wait_until_done,
)
from tests.servers import Broker, kafka_broker, valkey, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.fault]

ROUNDS = 8
BROKER_KILLS = (1, 3, 6)
SERVER_KILLS = (2, 4, 5)
CHUNK = 2_000


def test_kills_of_ingest_and_of_the_broker_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    """Two processes in one group, killed alone or both, noise and duplicates among the events."""
    chance = random.Random(3)
    with kafka_broker(tmp_path) as broker:
        kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
        source = Source(kafka)
        servers = broker.bootstrap_servers
        # Small batches and flushes: a kill then finds each of the steps under way.
        small = {"EVENTIDE_INGEST__MAX_BATCH": "80", "EVENTIDE_INGEST__FLUSH_ROWS": "200"}
        with (
            ingesting(tmp_path, servers, instance="0", **small) as one,
            ingesting(tmp_path, servers, instance="1", **small) as two,
        ):
            kills = 0
            for n in range(ROUNDS):
                source.send(CHUNK, poison_each=211, twice_each=97)
                source.flush()
                victims = chance.choice(([one], [two], [one, two], [one, two]))
                _wait_for_progress(kafka, [one, two], chance)
                if n in BROKER_KILLS:
                    broker.kill()
                    broker.start()
                    _wait_for_progress(kafka, [one, two], chance)
                kills += _kill(victims)
            wait_until_done(kafka, one, two)
            assert one.stop() == two.stop() == 0
        assert kills >= 10
        assert_all_in_place(audited(tmp_path, servers), source)
        _check_that_dead_letters_are_whole(broker)


def test_kills_of_ingest_and_of_valkey_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    """Two processes, and the server that both keep the online state in; some kills hit both."""
    chance = random.Random(7)
    with kafka_broker(tmp_path) as broker, valkey(tmp_path / "valkey") as server:
        kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
        source = Source(kafka)
        servers = broker.bootstrap_servers
        small = {
            "EVENTIDE_INGEST__MAX_BATCH": "80",
            "EVENTIDE_INGEST__FLUSH_ROWS": "200",
            "EVENTIDE_ONLINE_STORE": server.url,
        }
        with (
            ingesting(tmp_path, servers, instance="0", **small) as one,
            ingesting(tmp_path, servers, instance="1", **small) as two,
        ):
            for n in range(ROUNDS):
                source.send(CHUNK, poison_each=211, twice_each=97)
                source.flush()
                _wait_for_progress(kafka, [one, two], chance)
                if n in SERVER_KILLS:
                    server.kill()
                _kill(chance.choice(([one], [two], [one, two])))
                if n in SERVER_KILLS:
                    server.start()
            wait_until_done(kafka, one, two)
            assert one.stop() == two.stop() == 0
        assert not (tmp_path / "online").exists()
        assert_all_in_place(audited(tmp_path, servers, EVENTIDE_ONLINE_STORE=server.url), source)


def _wait_for_progress(
    kafka: KafkaSettings, processes: list[IngestProcess], chance: random.Random
) -> None:
    """Until some more of the events are behind the group, how many is chance."""
    goal = reached(kafka) + chance.randrange(1, CHUNK // 2)

    def moved() -> bool:
        for process in processes:
            process.restart_if_ended()
        return reached(kafka) >= goal

    wait_until(moved, what="ingest moves on", limit_s=60, pause_s=0.02)


def _kill(victims: list[IngestProcess]) -> int:
    for victim in victims:
        victim.process.kill()
    for victim in victims:
        victim.process.wait()
        victim.start()
    return len(victims)


def _check_that_dead_letters_are_whole(broker: Broker) -> None:
    from features.dead_letters import DEAD_LETTERS
    from infra.kafka.reader import read_all

    kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
    for message in read_all(kafka, [DEAD_LETTERS]):
        assert (message.value() or b"").startswith(b"noise ")
        headers = dict(message.headers() or ())
        assert headers["dlq.error"] == b"not_json"
        assert headers["schema"] == (headers["dlq.topic"] or b"") + b"/1"

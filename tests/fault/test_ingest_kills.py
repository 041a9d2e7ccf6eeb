"""Ingest and the broker are killed again and again; every event is stored once all the same."""

import random
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from infra.settings import KafkaSettings
from tests.support.faults import FaultCounts
from tests.support.processes.ingest import (
    IngestProcess,
    Source,
    all_ingested,
    assert_all_in_place,
    audited,
    ingesting,
    reached,
    wait_until_done,
)
from tests.support.servers import Broker, kafka_broker, valkey
from tests.support.waiting import holds_within, wait_until

pytestmark = pytest.mark.fault

CHUNK = 1_000
# After a kill of the broker: its start, the watchdog's 10 s, a session's 3 s, a start of ingest.
LIMIT_S = 180


def test_kills_of_ingest_and_of_the_broker_lose_nothing_and_double_nothing(
    tmp_path: Path, faults: FaultCounts
) -> None:
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
            kills = rounds = 0
            while kills < faults.ingest_kills:
                source.send(CHUNK, poison_each=211, twice_each=97)
                source.flush()
                victims = chance.choice(([one], [two], [one, two], [one, two]))
                _wait_for_progress(kafka, [one, two], chance)
                if rounds in faults.broker_killed_in_rounds:
                    broker.kill()
                    broker.start()
                    _wait_for_progress(kafka, [one, two], chance)
                kills += _kill(victims)
                rounds += 1
            wait_until_done(kafka, one, two, limit_s=LIMIT_S)
            assert one.stop() == two.stop() == 0
        assert rounds > max(faults.broker_killed_in_rounds)
        assert_all_in_place(audited(tmp_path, servers), source)
        _check_that_dead_letters_are_whole(broker)


def test_kills_of_ingest_and_of_valkey_lose_nothing_and_double_nothing(
    tmp_path: Path, faults: FaultCounts
) -> None:
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
            for n in range(faults.valkey_rounds):
                source.send(CHUNK, poison_each=211, twice_each=97)
                source.flush()
                _wait_for_progress(kafka, [one, two], chance)
                if n in faults.valkey_killed_in_rounds:
                    server.kill()
                _kill(chance.choice(([one], [two], [one, two])))
                if n in faults.valkey_killed_in_rounds:
                    server.start()
            wait_until_done(kafka, one, two)
            assert one.stop() == two.stop() == 0
        assert not (tmp_path / "online").exists()
        assert_all_in_place(audited(tmp_path, servers, EVENTIDE_ONLINE_STORE=server.url), source)


def test_a_process_that_was_frozen_past_its_session_writes_nothing_twice(
    tmp_path: Path, faults: FaultCounts
) -> None:
    """It wakes with events in hand of partitions that another process has taken over."""
    patient = {"EVENTIDE_INGEST__WATCHDOG_SECONDS": "600", "EVENTIDE_INGEST__MAX_BATCH": "80"}
    with kafka_broker(tmp_path) as broker:
        servers = broker.bootstrap_servers
        kafka = KafkaSettings(bootstrap_servers=servers)
        source = Source(kafka)
        with (
            ingesting(tmp_path, servers, instance="0", **patient) as zombie,
            ingesting(tmp_path, servers, instance="1", **patient) as heir,
        ):
            overtaken = 0
            deadline = time.monotonic() + 2 * LIMIT_S * faults.ingest_takeovers / 3
            while overtaken < faults.ingest_takeovers:
                assert time.monotonic() < deadline
                wait_until(zombie.ready, what="both take events", limit_s=LIMIT_S)
                source.send(CHUNK, poison_each=101, twice_each=97)
                source.flush()
                zombie.process.send_signal(signal.SIGSTOP)
                try:
                    # Not if it was frozen inside a write of the online store, which one process
                    # does at a time: then the heir waits too, and that is no overtaking.
                    overtaken += holds_within(partial(all_ingested, kafka), limit_s=20, pause_s=0.1)
                finally:
                    zombie.process.send_signal(signal.SIGCONT)
                wait_until_done(kafka, zombie, heir, limit_s=LIMIT_S)
            assert zombie.stop() == heir.stop() == 0
        assert_all_in_place(audited(tmp_path, servers), source)


def test_two_groups_at_the_same_partitions_store_each_event_once(
    tmp_path: Path, faults: FaultCounts
) -> None:
    """A second installation on the same stores, by mistake: both write all partitions. Dead letters
    are each group's own, so there are none here."""
    small = {"EVENTIDE_INGEST__MAX_BATCH": "80", "EVENTIDE_INGEST__FLUSH_ROWS": "200"}
    with kafka_broker(tmp_path) as broker:
        servers = broker.bootstrap_servers
        kafka = KafkaSettings(bootstrap_servers=servers)
        source = Source(kafka)
        with (
            ingesting(tmp_path, servers, instance="0", **small) as right,
            ingesting(
                tmp_path, servers, instance="wrong", EVENTIDE_INGEST__GROUP="another", **small
            ) as wrong,
        ):
            for _ in range(faults.ingest_group_conflicts):
                source.send(CHUNK, twice_each=97)
                source.flush()
                wait_until_done(kafka, right, wrong, limit_s=LIMIT_S)
            fought = "position_moved" in right.text() + wrong.text()
            for process in (wrong, right):
                process.restart_if_ended()
                process.stop()
        assert fought, "they never met"
        assert_all_in_place(audited(tmp_path, servers), source)


def _wait_for_progress(
    kafka: KafkaSettings, processes: list[IngestProcess], chance: random.Random
) -> None:
    """Until some more of the events are behind the group, how many is chance."""
    goal = reached(kafka) + chance.randrange(1, CHUNK // 2)

    def moved() -> bool:
        for process in processes:
            process.restart_if_ended()
        return reached(kafka) >= goal

    wait_until(moved, what="ingest moves on", limit_s=LIMIT_S, pause_s=0.02)


def _kill(victims: list[IngestProcess]) -> int:
    for victim in victims:
        victim.process.kill()
    for victim in victims:
        victim.process.wait()
        victim.start()
    return len(victims)


def _check_that_dead_letters_are_whole(broker: Broker) -> None:
    from features.ingestion.dead_letter_sink import DEAD_LETTERS
    from infra.kafka.topic_reader import read_all

    kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
    for message in read_all(kafka, [DEAD_LETTERS]):
        assert (message.value() or b"").startswith(b"noise ")
        headers = dict(message.headers() or ())
        assert headers["dlq.error"] == b"not_json"
        assert headers["schema"] == (headers["dlq.topic"] or b"") + b"/1"

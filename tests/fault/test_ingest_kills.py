"""Ingest and the broker are killed again and again; every event is still stored once."""

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


def test_kills_of_ingest_and_of_the_broker_lose_and_duplicate_nothing(
    tmp_path: Path, faults: FaultCounts
) -> None:
    """Two processes in one group, killed alone or both, noise and duplicates among the events."""
    chance = random.Random(3)
    with kafka_broker(tmp_path) as broker:
        kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
        source = Source(kafka)
        servers = broker.bootstrap_servers
        # Small batches and flushes: a kill then interrupts each of the steps.
        small = {"EVENTIDE_INGEST__MAX_BATCH": "80", "EVENTIDE_INGEST__FLUSH_ROWS": "200"}
        with (
            ingesting(tmp_path, servers, instance="0", **small) as first,
            ingesting(tmp_path, servers, instance="1", **small) as second,
        ):
            kills = rounds = 0
            while kills < faults.ingest_kills:
                source.send(CHUNK, poison_each=211, twice_each=97)
                source.flush()
                victims = chance.choice(([first], [second], [first, second], [first, second]))
                _wait_for_progress(kafka, [first, second], chance)
                if rounds in faults.broker_killed_in_rounds:
                    broker.kill()
                    broker.start()
                    _wait_for_progress(kafka, [first, second], chance)
                kills += _kill(victims)
                rounds += 1
            wait_until_done(kafka, first, second, limit_s=LIMIT_S)
            assert first.stop() == second.stop() == 0
        assert rounds > max(faults.broker_killed_in_rounds)
        assert_all_in_place(audited(tmp_path, servers), source)
        _check_that_dead_letters_are_whole(broker)


def test_kills_of_ingest_and_of_valkey_lose_and_duplicate_nothing(
    tmp_path: Path, faults: FaultCounts
) -> None:
    """Two processes and their shared online store; some kills hit both processes."""
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
            ingesting(tmp_path, servers, instance="0", **small) as first,
            ingesting(tmp_path, servers, instance="1", **small) as second,
        ):
            for n in range(faults.valkey_rounds):
                source.send(CHUNK, poison_each=211, twice_each=97)
                source.flush()
                _wait_for_progress(kafka, [first, second], chance)
                if n in faults.valkey_killed_in_rounds:
                    server.kill()
                _kill(chance.choice(([first], [second], [first, second])))
                if n in faults.valkey_killed_in_rounds:
                    server.start()
            wait_until_done(kafka, first, second)
            assert first.stop() == second.stop() == 0
        assert not (tmp_path / "online").exists()
        assert_all_in_place(audited(tmp_path, servers, EVENTIDE_ONLINE_STORE=server.url), source)


def test_a_process_frozen_past_its_session_writes_nothing_twice(
    tmp_path: Path, faults: FaultCounts
) -> None:
    """It wakes up with buffered events of partitions that another process has taken over."""
    patient = {"EVENTIDE_INGEST__WATCHDOG_SECONDS": "600", "EVENTIDE_INGEST__MAX_BATCH": "80"}
    with kafka_broker(tmp_path) as broker:
        servers = broker.bootstrap_servers
        kafka = KafkaSettings(bootstrap_servers=servers)
        source = Source(kafka)
        with (
            ingesting(tmp_path, servers, instance="0", **patient) as zombie,
            ingesting(tmp_path, servers, instance="1", **patient) as successor,
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
                    # holds at a time: then the successor waits too, and does not overtake.
                    overtaken += holds_within(partial(all_ingested, kafka), limit_s=20, pause_s=0.1)
                finally:
                    zombie.process.send_signal(signal.SIGCONT)
                wait_until_done(kafka, zombie, successor, limit_s=LIMIT_S)
            assert zombie.stop() == successor.stop() == 0
        assert_all_in_place(audited(tmp_path, servers), source)


def test_two_groups_on_the_same_partitions_store_each_event_once(
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
            ingesting(tmp_path, servers, instance="0", **small) as intended,
            ingesting(
                tmp_path, servers, instance="wrong", EVENTIDE_INGEST__GROUP="another", **small
            ) as misconfigured,
        ):
            for _ in range(faults.ingest_group_conflicts):
                source.send(CHUNK, twice_each=97)
                source.flush()
                wait_until_done(kafka, intended, misconfigured, limit_s=LIMIT_S)
            conflicted = "position_moved" in intended.text() + misconfigured.text()
            for process in (misconfigured, intended):
                process.restart_if_ended()
                process.stop()
        assert conflicted, "the groups never conflicted"
        assert_all_in_place(audited(tmp_path, servers), source)


def _wait_for_progress(
    kafka: KafkaSettings, processes: list[IngestProcess], chance: random.Random
) -> None:
    """Wait until the group has ingested some more events; how many is random.

    Fewer may be left than that: ingest goes on while the broker restarts.
    """
    goal = reached(kafka) + chance.randrange(1, CHUNK // 2)

    def moved() -> bool:
        for process in processes:
            process.restart_if_ended()
        return reached(kafka) >= goal or all_ingested(kafka)

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

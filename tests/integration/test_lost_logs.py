"""The brokers lose what a sink reads next: it is said, it can be accepted, and then all goes on."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from features.catalog.flights.events import DEPARTED
from infra.kafka.admin import end_offsets
from infra.kafka.partitions import Partition
from infra.settings import KafkaSettings
from tests.support.brokers import create_again, delete_groups, delete_records
from tests.support.processes.commands import environment, run
from tests.support.processes.ingest import (
    GROUP,
    IngestProcess,
    Source,
    audited,
    ingesting,
    wait_until_done,
)
from tests.support.servers import Broker, kafka_broker
from tests.support.waiting import wait_until


@dataclass(frozen=True, kw_only=True)
class Installation:
    broker: Broker
    state: Path
    source: Source

    @property
    def kafka(self) -> KafkaSettings:
        return KafkaSettings(bootstrap_servers=self.broker.bootstrap_servers)

    @property
    def env(self) -> dict[str, str]:
        return environment(self.state, self.broker.bootstrap_servers)

    def send(self, count: int, *, poison_each: int = 0) -> None:
        self.source.send(count, poison_each=poison_each)
        self.source.flush()

    def ingest_all(self) -> None:
        with ingesting(self.state, self.broker.bootstrap_servers) as process:
            wait_until_done(self.kafka)
            assert process.stop() == 0, process.text()

    def refused(self) -> str:
        """What ingest says when it refuses to start."""
        with ingesting(self.state, self.broker.bootstrap_servers) as process:
            return _end_of(process)

    def audit(self) -> dict[str, Any]:
        return audited(self.state, self.broker.bootstrap_servers)

    def accept(self) -> list[dict[str, Any]]:
        completed = run(
            "topics", "accept-gap", "--reason", "a test", "--by", "me", "--json", env=self.env
        )
        entries: list[dict[str, Any]] = json.loads(completed.stdout)
        return entries


def _end_of(process: IngestProcess) -> str:
    wait_until(lambda: process.ended is not None, what="ingest ends", limit_s=60)
    assert process.ended == 1, process.text()[-3_000:]
    return " ".join(process.text().split())  # it wraps its last words


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Installation]:
    with kafka_broker(tmp_path) as broker:
        kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
        source = Source(kafka)
        site = Installation(broker=broker, state=tmp_path, source=source)
        site.send(1_500, poison_each=300)
        site.ingest_all()
        yield site


def test_a_topic_that_is_created_again_and_grows_beyond_the_positions_is_noticed(
    site: Installation,
) -> None:
    stored = site.audit()["totals"]["events"]["stored"]
    longest = max(end for p, end in end_offsets(site.kafka, [DEPARTED.name]).items())
    create_again(site.kafka, DEPARTED.name)
    while min(end_offsets(site.kafka, [DEPARTED.name]).values()) <= longest:
        site.send(1_000)

    assert "deleted and created again" in site.refused()
    assert "accept-gap" in site.refused()
    audit = site.audit()
    assert not audit["clean"]
    assert {(g["topic"], g["partition"]) for g in audit["gaps"]} == {
        (DEPARTED.name, n) for n in range(DEPARTED.partitions)
    }
    entries = site.accept()
    assert [(e["gap"]["by"], e["gap"]["reason"]) for e in entries] == [("me", "a test")] * 4
    again = run("topics", "accept-gap", "--reason", "again", env=site.env, ok=False)
    assert again.returncode == 1, again.stderr
    assert "there is no gap" in again.stderr

    site.ingest_all()
    audit = site.audit()
    assert audit["clean"], audit
    assert audit["totals"]["events"]["waiting"] == 0
    assert len(audit["accepted_gaps"]) == DEPARTED.partitions
    assert audit["totals"]["events"]["stored"] >= stored
    assert audit["totals"]["events"]["missing"] == audit["totals"]["events"]["doubled"] == 0
    assert "accepted loss" in run("audit", env=site.env).stdout
    assert "there is no gap" in run("topics", "accept-gap", env=site.env).stdout


def test_a_broker_that_comes_back_empty_is_noticed(site: Installation) -> None:
    site.broker.stop()
    shutil.rmtree(site.state / "kafka")
    site.broker.start()
    source = Source(site.kafka)  # it creates the topics again
    source.send(3_000, poison_each=300)
    source.flush()

    assert "deleted and created again" in site.refused()
    assert not site.audit()["clean"]
    site.accept()
    site.ingest_all()
    audit = site.audit()
    assert audit["clean"], audit
    assert audit["totals"]["events"]["stored"] == 3_000
    assert audit["totals"]["events"]["dead_lettered"] == 10
    assert audit["online"]["values_checked"] > 0


def test_events_that_were_deleted_before_they_were_read_are_reported_and_accepted(
    site: Installation,
) -> None:
    site.send(2_000)
    gone = {p: end - 1 for p, end in end_offsets(site.kafka, [DEPARTED.name]).items()}
    delete_records(site.kafka, gone)

    assert "were deleted before they were read" in site.refused()
    assert not site.audit()["clean"]
    entries = site.accept()
    assert {e["gap"]["kind"] for e in entries} == {"expired"}
    assert {
        Partition(e["topic"], e["partition"]): e["gap"]["resume"]["offline"] for e in entries
    } == gone
    site.ingest_all()
    assert site.audit()["clean"]


def test_a_topic_that_is_created_again_under_a_running_ingest_ends_it(site: Installation) -> None:
    with ingesting(site.state, site.broker.bootstrap_servers) as process:
        wait_until(process.ready, what="ingest is ready", limit_s=60)
        create_again(site.kafka, DEPARTED.name)
        assert "accept-gap" in _end_of(process)
    assert "deleted and created again" in site.refused()
    site.accept()
    site.send(500)
    site.ingest_all()
    assert site.audit()["clean"]


def test_no_dead_letter_is_doubled_when_the_positions_of_the_group_are_gone(
    site: Installation,
) -> None:
    delete_groups(site.kafka, GROUP)
    site.send(1_000, poison_each=100)
    site.ingest_all()
    audit = site.audit()
    assert audit["clean"], audit
    assert audit["totals"]["events"]["dead_lettered"] == site.source.poison == 15

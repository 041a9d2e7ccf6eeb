"""The positions of serving are gone or set back: nothing is answered twice, nothing is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from features.catalog.flights.events import REQUESTED
from features.catalog.flights.services import FLIGHT_DELAY
from features.contracts.predictions import source_of_outcome
from infra.kafka.admin import end_offsets
from infra.kafka.config import producer_config
from infra.kafka.partitions import Partition
from infra.kafka.written import newest_written
from infra.settings import KafkaSettings
from tests.support.brokers import create_again, delete_groups, delete_records
from tests.support.data.bundles import a_bundle
from tests.support.processes.commands import environment, run
from tests.support.processes.ingest import ingesting
from tests.support.processes.serving import (
    PREDICTIONS,
    Feeder,
    ServingProcess,
    Site,
    all_answered,
    assert_each_answered_once,
    outcomes,
    prepare_site,
    serving,
)
from tests.support.servers import kafka_broker
from tests.support.waiting import wait_until


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with kafka_broker(tmp_path / "kafka") as broker:
        kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
        site = prepare_site(kafka, tmp_path / "state")
        a_bundle(site.bundle, FLIGHT_DELAY)
        yield site


def serve_all(site: Site, feeder: Feeder, *, project: str = "") -> None:
    feeder.flush()
    with serving(site, project=project) as process:
        wait_until(lambda: all_answered(site), what="all requests are answered", limit_s=60)
        assert process.stop() == 0


def refused(site: Site) -> str:
    """What serving says when it refuses to start."""
    process = ServingProcess(site)
    try:
        wait_until(
            lambda: process.ended is not None,
            what="serving ends",
            limit_s=60,
            details=lambda: process.text()[-3_000:] + process.why_not_ready(),
        )
    finally:
        if process.ended is None:
            process.kill()
    return " ".join(process.text().split())  # it wraps its last words


def an_open_outcome(site: Site) -> Producer:
    """A transaction with a later outcome in it, which is aborted: it must not count."""
    config = producer_config(site.kafka, transactional_id="crashed")
    producer = Producer(config)
    producer.init_transactions(10)
    producer.begin_transaction()
    for n in range(REQUESTED.partitions):
        value = f'{{"source":"{REQUESTED.name}-{n}-100000"}}'.encode()
        producer.produce(PREDICTIONS, value, partition=n)
    producer.flush(10)
    producer.abort_transaction(10)
    return producer


def set_back(site: Site) -> None:
    """As `kafka-consumer-groups.sh --reset-offsets --to-earliest` does."""
    consumer = Consumer({"bootstrap.servers": site.kafka.bootstrap_servers, "group.id": site.group})
    places = [TopicPartition(REQUESTED.name, n, 0) for n in range(REQUESTED.partitions)]
    consumer.commit(offsets=places, asynchronous=False)
    consumer.close()


@pytest.mark.parametrize("accident", [delete_groups, set_back])
def test_nothing_is_answered_twice_and_nothing_is_lost(site: Site, accident: object) -> None:
    feeder = Feeder(site.kafka)
    feeder.send(300, poison_each=50)
    serve_all(site, feeder)
    an_open_outcome(site)
    if accident is set_back:
        set_back(site)
    else:
        delete_groups(site.kafka, site.group)
    feeder.send(200, poison_each=50)
    serve_all(site, feeder)
    assert_each_answered_once(site, feeder)


def test_an_output_whose_records_were_deleted_is_said_and_accepted(site: Site) -> None:
    feeder = Feeder(site.kafka)
    feeder.send(100)
    serve_all(site, feeder)
    delete_groups(site.kafka, site.group)
    delete_records(site.kafka, end_offsets(site.kafka, [PREDICTIONS]))
    feeder.send(20)
    feeder.flush()
    said = refused(site)
    assert "its outcomes were deleted" in said
    assert "accept-gap" in said
    env = environment(site.state, site.kafka.bootstrap_servers)
    run("topics", "accept-gap", "--reason", "a test", env=env)
    ends = sum(end_offsets(site.kafka, [REQUESTED.name]).values())
    feeder.send(30)
    serve_all(site, feeder)
    assert len(outcomes(site)) == 30
    assert sum(end_offsets(site.kafka, [REQUESTED.name]).values()) == ends + 30


def test_a_topic_of_requests_that_is_created_again_is_noticed_and_accepted(site: Site) -> None:
    feeder = Feeder(site.kafka)
    feeder.send(100)
    serve_all(site, feeder)
    with ingesting(site.state, site.kafka.bootstrap_servers) as ingest:
        wait_until(ingest.ready, what="ingest is ready", limit_s=60)
        assert ingest.stop() == 0
    create_again(site.kafka, REQUESTED.name)
    feeder.send(200)
    feeder.flush()
    assert "deleted and created again" in refused(site)
    env = environment(site.state, site.kafka.bootstrap_servers)
    run("topics", "accept-gap", "--reason", "a test", env=env)
    serve_all(site, feeder)
    sources = [o.source for _, o in outcomes(site)]
    assert len(sources) == len(set(sources)) == 300


def test_the_newest_written_source_is_found_however_far_back(site: Site) -> None:
    feeder = Feeder(site.kafka)
    feeder.send(40)
    serve_all(site, feeder)
    other = Producer(producer_config(site.kafka, transactional_id=None))
    for n in range(5_000):  # later outcomes of another topic
        other.produce(PREDICTIONS, b'{"source":"other.topic-0-%d"}' % n, partition=n % 4)
    assert other.flush(30) == 0
    wanted = [Partition(REQUESTED.name, n) for n in range(REQUESTED.partitions)]
    written = newest_written(site.kafka, PREDICTIONS, source_of=source_of_outcome, wanted=wanted)
    assert written.whole
    assert written.next == dict(end_offsets(site.kafka, [REQUESTED.name]))

"""The serving loop in this process, on a real broker, with rare failures injected."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import pytest

from features.catalog.flights.events import REQUESTED
from features.catalog.flights.services import FLIGHT_DELAY
from features.catalog.flights.views import ALL
from features.definitions import Int64Array
from features.errors import StoreUnavailable
from features.retrieval.online import FeatureReader, FeatureVectors
from features.stores.memory import MemoryOnlineStore
from infra.clock import DAY, MINUTE, now_us
from infra.kafka.admin import end_offsets, topic_partitions
from infra.kafka.consumer import GroupConsumer
from infra.kafka.errors import TransactionAborted
from infra.kafka.observers import end_observer
from infra.kafka.partitions import Partition, Positions
from infra.kafka.transactions import ProducerRecord, TransactionalProducer
from infra.process.watchdog import Watchdog
from infra.settings import KafkaSettings
from ml.bundle.scoring import Bundle
from serving.bootstrap import request_decoder
from serving.freshness import Freshness
from serving.loop import Parts, Scoring, ServingLoop
from serving.model import ModelVersion, ServedModel
from serving.ports import Features
from serving.publish import Topics
from serving.score import Scorer
from tests.support.data.bundles import a_bundle
from tests.support.processes.serving import (
    PREDICTIONS,
    Feeder,
    Site,
    all_answered,
    assert_each_answered_once,
    outcomes,
    prepare_site,
)
from tests.support.servers import kafka_broker
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with kafka_broker(tmp_path_factory.mktemp("loop-kafka")) as broker:
        kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
        yield prepare_site(kafka, tmp_path_factory.mktemp("loop-state"))


@pytest.fixture(scope="module")
def feeder(site: Site) -> Feeder:
    return Feeder(site.kafka)


class Choice:
    """The champion, chosen by the test."""

    def __init__(self, model: ServedModel | None) -> None:
        self.model = model
        self.trouble = ""


@pytest.fixture
def model(tmp_path: Path) -> ServedModel:
    sha256 = a_bundle(tmp_path / "bundle", FLIGHT_DELAY)
    return ServedModel.of(
        ModelVersion(name="flight_delay", version="1", run_id=None, bundle_sha256=sha256),
        Bundle.load(tmp_path / "bundle", sha256),
        FLIGHT_DELAY,
    )


class AbortsEverySecond(TransactionalProducer):
    """Aborts every second transaction, as a rebalance does."""

    calls = 0

    def send_all(
        self,
        records: Sequence[ProducerRecord],
        *,
        offsets: Positions | None = None,
        consumer: GroupConsumer | None = None,
        arrived: dict[Partition, int] | None = None,
    ) -> None:
        self.calls += 1
        if self.calls % 2:
            raise TransactionAborted("the group moved on")
        super().send_all(records, offsets=offsets, consumer=consumer, arrived=arrived)


class UnavailableOnce:
    """A feature store that does not answer its first call."""

    def __init__(self) -> None:
        self.calls = 0
        self._inner = FeatureReader(FLIGHT_DELAY, MemoryOnlineStore())

    def vectors(self, requests: Sequence[msgspec.Struct], as_of_us: Int64Array) -> FeatureVectors:
        self.calls += 1
        if self.calls == 1:
            raise StoreUnavailable("away for a moment")
        return self._inner.vectors(requests, as_of_us)


@contextmanager
def a_loop(
    site: Site,
    choice: Choice,
    *,
    producer: Callable[..., TransactionalProducer] = TransactionalProducer,
    features: Features | None = None,
    clock_us: Callable[[], int] = now_us,
) -> Iterator[ServingLoop]:
    """A loop that runs; its errors are raised at the end of the block."""
    scorer = Scorer(
        FLIGHT_DELAY,
        decode=request_decoder(FLIGHT_DELAY, max_future_us=10 * MINUTE, clock_us=clock_us),
        features=features or FeatureReader(FLIGHT_DELAY, MemoryOnlineStore()),
    )
    stop = threading.Event()
    with closing(producer(site.kafka, transactional_id="loop")) as sender, Watchdog(60) as watchdog:
        parts = Parts(
            champion=choice,
            producer=sender,
            open_topics=lambda: Topics(
                requests=REQUESTED.name, predictions=PREDICTIONS, same_partitions=True
            ),
            open_scoring=lambda: Scoring(freshness=_freshness(site), scorer=scorer),
            join=partial(_join, site),
            check=lambda: None,
        )
        loop = ServingLoop(parts, max_batch=50, stop=stop, watchdog=watchdog)
        with ThreadPoolExecutor(1) as thread:
            running = thread.submit(loop.run)
            try:
                yield loop
            finally:
                stop.set()
            running.result()


def _freshness(site: Site) -> Freshness:
    partitions = topic_partitions(site.kafka, {e.name for v in ALL for e in v.sources})
    return Freshness(
        MemoryOnlineStore(),
        partitions,
        open_ends=partial(end_observer, site.kafka, partitions),
        max_wait_s=60,
    )


def _join(site: Site, topics: Topics) -> GroupConsumer:
    return GroupConsumer(site.kafka, group=site.group, instance="loop", topics=[topics.requests])


def wait_until_all_answered(site: Site, feeder: Feeder) -> None:
    feeder.flush()
    wait_until(lambda: all_answered(site), what="all requests are answered", limit_s=60)


def test_a_batch_whose_transaction_was_aborted_is_answered_once(
    site: Site, feeder: Feeder, model: ServedModel
) -> None:
    with a_loop(site, Choice(model), producer=AbortsEverySecond):
        feeder.send(500, poison_each=25)
        wait_until_all_answered(site, feeder)
    assert_each_answered_once(site, feeder)


def test_a_brief_outage_of_the_store_loses_no_request(
    site: Site, feeder: Feeder, model: ServedModel
) -> None:
    unavailable = UnavailableOnce()
    with a_loop(site, Choice(model), features=unavailable):
        feeder.send(200, poison_each=25)
        wait_until_all_answered(site, feeder)
    assert unavailable.calls > 1
    assert_each_answered_once(site, feeder)


def test_a_model_that_fails_on_every_request_pauses_serving_until_it_is_replaced(
    site: Site, feeder: Feeder, model: ServedModel
) -> None:
    earlier_outcomes = len(outcomes(site))
    broken = replace(model, bundle=None)  # type: ignore[arg-type]  # fails on any request
    choice = Choice(broken)
    with a_loop(site, choice) as loop:
        feeder.send(100)
        feeder.flush()
        wait_until(lambda: "scores no request" in loop.ready()[1], what="it says why", limit_s=60)
        assert not all_answered(site)
        assert len(outcomes(site)) == earlier_outcomes
        choice.model = model
        wait_until_all_answered(site, feeder)
        assert loop.ready() == (True, "serving requests")
    assert_each_answered_once(site, feeder)


def test_the_group_reaches_the_end_past_the_markers_of_transactional_requests(
    site: Site, feeder: Feeder, model: ServedModel
) -> None:
    with (
        a_loop(site, Choice(model)),
        closing(TransactionalProducer(site.kafka, transactional_id="source")) as source,
    ):
        feeder.send(40)
        feeder.flush()
        poison = [ProducerRecord(topic=REQUESTED.name, value=b"noise", key=b"k")]
        source.send_all(poison)
        feeder.sent, feeder.poison = feeder.sent + 1, feeder.poison + 1
        wait_until_all_answered(site, feeder)
        assert sum(end_offsets(site.kafka, [REQUESTED.name]).values()) == feeder.sent + 1
    assert_each_answered_once(site, feeder)


@pytest.mark.parametrize("behind_us", [11 * MINUTE, 3 * DAY])
def test_a_clock_that_is_behind_rejects_no_request(
    site: Site, feeder: Feeder, model: ServedModel, behind_us: int
) -> None:
    earlier_outcomes = len(outcomes(site))
    wrong_by = [behind_us]
    with a_loop(site, Choice(model), clock_us=lambda: now_us() - wrong_by[0]) as loop:
        feeder.send(100)
        feeder.flush()
        wait_until(lambda: "compare clocks" in loop.ready()[1], what="it says why", limit_s=60)
        assert len(outcomes(site)) == earlier_outcomes
        wrong_by[0] = 0
        wait_until_all_answered(site, feeder)
    assert_each_answered_once(site, feeder)

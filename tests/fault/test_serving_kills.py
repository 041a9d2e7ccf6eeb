"""Serving and its broker are killed under load; every request still has exactly one outcome."""

import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from features.catalog.flights.events import REQUESTED
from features.catalog.flights.services import FLIGHT_DELAY
from infra.kafka.admin import end_offsets
from infra.settings import KafkaSettings
from tests.support.data.bundles import a_bundle
from tests.support.faults import FaultCounts
from tests.support.positions import group_positions
from tests.support.processes.serving import (
    Feeder,
    Site,
    all_answered,
    assert_each_answered_once,
    prepare_site,
    serving,
)
from tests.support.servers import Broker, kafka_broker
from tests.support.waiting import wait_until

pytestmark = pytest.mark.fault

LOAD = 40  # requests a step, each `STEP_S`
STEP_S = 0.05


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with kafka_broker(tmp_path / "kafka-state") as started:
        yield started


@pytest.fixture
def site(broker: Broker, tmp_path: Path) -> Site:
    site = prepare_site(
        KafkaSettings(bootstrap_servers=broker.bootstrap_servers), tmp_path / "state"
    )
    a_bundle(site.bundle, FLIGHT_DELAY)
    return site


def load_until(feeder: Feeder, condition: Callable[[], bool], *, limit_s: float = 60.0) -> None:
    """Send requests at a steady rate, a fiftieth of them poison, until the condition holds."""
    deadline = time.monotonic() + limit_s

    def step() -> bool:
        feeder.send(LOAD, poison_each=LOAD)
        return condition()

    wait_until(step, what="the condition under load", limit_s=limit_s, pause_s=STEP_S)
    assert time.monotonic() < deadline


def test_serving_killed_at_random_moments_answers_each_request_once(
    site: Site, faults: FaultCounts
) -> None:
    moments = random.Random(7)
    feeder = Feeder(site.kafka)
    with serving(site, max_batch=50) as process:
        for _ in range(faults.serving_kills):
            committed_before = committed_requests(site)
            load_until(feeder, partial(has_committed_more, site, committed_before))
            until = time.monotonic() + moments.uniform(0, 0.6)
            load_until(feeder, partial(is_past, until))
            process.kill()
            process.start()
        feeder.flush()
        wait_until(lambda: all_answered(site), what="all requests are answered", limit_s=120)
        assert process.stop() == 0

    assert_each_answered_once(site, feeder)


def is_past(moment_s: float) -> bool:
    """On the clock of `time.monotonic`."""
    return time.monotonic() >= moment_s


def has_committed_more(site: Site, committed_before: int) -> bool:
    """Whether the group has committed more requests than before."""
    return committed_requests(site) > committed_before


def committed_requests(site: Site) -> int:
    """How many requests the group has committed."""
    return sum(group_positions(site.kafka, site.group).values())


def test_serving_survives_kills_of_the_broker_under_load(
    site: Site, broker: Broker, faults: FaultCounts
) -> None:
    feeder = Feeder(site.kafka)
    restarts = 0

    def answered_again(committed_before: int) -> bool:
        nonlocal restarts
        restarts += process.restart_if_ended()
        return committed_requests(site) > committed_before

    with serving(site, watchdog_s=12) as process:
        for _ in range(faults.serving_broker_kills):
            committed_before = committed_requests(site)
            load_until(feeder, partial(answered_again, committed_before))
            broker.kill()
            feeder.send(LOAD)
            broker.start()
            committed_before = committed_requests(site)
            load_until(feeder, partial(answered_again, committed_before), limit_s=120)
        feeder.flush()
        end = sum(end_offsets(site.kafka, [REQUESTED.name]).values())
        wait_until(lambda: answered_again(end - 1), what="all requests are answered", limit_s=120)
        assert all_answered(site)
        print(f"{faults.serving_broker_kills} kills of the broker, {restarts} restarts of serving")

    assert_each_answered_once(site, feeder)

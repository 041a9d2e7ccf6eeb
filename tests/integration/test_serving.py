"""The serving process on a real broker."""

import re
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from features.catalog.flights.events import REQUESTED
from features.catalog.flights.services import FLIGHT_DELAY
from infra.kafka.message import Message
from infra.kafka.topic_reader import read_all
from infra.settings import KafkaSettings
from tests.support.data.bundles import a_bundle
from tests.support.data.messages import a_message, a_request
from tests.support.processes.serving import (
    Feeder,
    ServingProcess,
    Site,
    all_answered,
    assert_each_answered_once,
    dead_letters,
    outcomes,
    prepare_site,
    serving,
)
from tests.support.servers import kafka_broker
from tests.support.waiting import wait_until
from tests.unit.serving.test_score import POISON


@pytest.fixture(scope="module")
def kafka_of_serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    """A broker of these tests' own, because the names of topics are declared."""
    with kafka_broker(tmp_path_factory.mktemp("serving-kafka")) as broker:
        yield KafkaSettings(bootstrap_servers=broker.bootstrap_servers)


@pytest.fixture(scope="module")
def feeder(kafka_of_serving: KafkaSettings) -> Feeder:
    return Feeder(kafka_of_serving)


@pytest.fixture
def site(kafka_of_serving: KafkaSettings, tmp_path: Path) -> Site:
    site = prepare_site(kafka_of_serving, tmp_path)
    a_bundle(site.bundle, FLIGHT_DELAY)
    return site


def test_each_request_gets_one_outcome_on_its_own_partition(site: Site, feeder: Feeder) -> None:
    with serving(site) as process:
        feeder.send(2_000, poison_each=50)
        feeder.flush()
        wait_until(lambda: all_answered(site), what="all requests are answered", limit_s=60)
        assert process.stop() == 0

    assert_each_answered_once(site, feeder)
    requests = {(m.partition(), m.offset()): m for m in read_all(site.kafka, [REQUESTED.name])}
    for message, outcome in outcomes(site):
        request = requests[message.partition(), int(outcome.source.rsplit("-", 1)[1])]
        assert message.key() == request.key()
        assert (message.headers() or [])[0] == ("schema", b"prediction/1")


def test_malformed_requests_stop_nothing_and_are_kept_unchanged(site: Site, feeder: Feeder) -> None:
    earlier_letters = len(dead_letters(site))
    sent = {name: (message, code) for name, (message, code) in POISON.items()}
    future = a_request("from 2099", event_time_us=4_070_908_800_000_000)
    sent["from the future"] = (a_message(future), "time_travel")
    with serving(site):
        for message, _ in sent.values():
            feeder.send_poison(message.value(), key=message.key(), headers=message.its_headers)
            feeder.send(1)
        feeder.flush()
        wait_until(lambda: all_answered(site), what="all requests are answered", limit_s=60)

    assert_each_answered_once(site, feeder)
    letters = dead_letters(site)[earlier_letters:]
    expected = sorted((m.value() or b"", m.key(), code) for m, code in sent.values())
    assert sorted((m.value() or b"", m.key(), error_of(m)) for m in letters) == expected
    assert {name for m in letters for name, _ in m.headers() or ()} >= {"schema", "dlq.message"}


def error_of(message: Message) -> str:
    return (dict(message.headers() or ())["dlq.error"] or b"").decode()


def test_a_new_model_takes_over_between_batches_and_no_request_is_lost(
    site: Site, feeder: Feeder
) -> None:
    earlier_outcomes = len(outcomes(site))
    with serving(site) as process:
        for n in range(4):
            feeder.send(300)
            replace_bundle(site, intercept=-2.0 - n)
            feeder.send(300)
            feeder.flush()
            wait_until(partial(has_swapped, process, n + 2), what="the model is changed")
        wait_until(lambda: all_answered(site), what="all requests are answered", limit_s=60)
        assert process.stop() == 0

    assert_each_answered_once(site, feeder)
    new = [outcome for _, outcome in outcomes(site)[earlier_outcomes:]]
    assert len(new) == 2_400
    assert {type(o.model_version) for o in new} == {str}
    scores: dict[str | None, set[float | None]] = {o.model_version: set() for o in new}
    for o in new:
        scores[o.model_version].add(o.score)
    assert 2 <= len(scores) <= 5
    assert all(len(distinct) == 1 for distinct in scores.values()), "two models under one version"


def has_swapped(process: ServingProcess, times: int) -> bool:
    return swaps(process) == times


def swaps(process: ServingProcess) -> int:
    match = re.search(
        r'eventide_serving_model_swaps_total{result="changed"} (\S+)', process.get("/metrics")[1]
    )
    return int(float(match[1])) if match else 0


def replace_bundle(site: Site, *, intercept: float) -> None:
    fresh, old = site.state / "fresh", site.state / "old"
    a_bundle(fresh, FLIGHT_DELAY, intercept=intercept)
    site.bundle.rename(old)
    fresh.rename(site.bundle)
    shutil.rmtree(old)


def test_a_model_with_other_columns_is_refused_and_the_old_one_keeps_serving(
    site: Site, feeder: Feeder
) -> None:
    with serving(site) as process:
        shutil.rmtree(site.bundle)
        distance = next(c for c in FLIGHT_DELAY.request_columns if c.name == "distance_miles")
        unknown = replace(distance, name="distance_in_steps")
        a_bundle(site.bundle, replace(FLIGHT_DELAY, request_columns=(unknown,)))
        wait_until(lambda: 'result="refused"' in process.get("/metrics")[1], what="it is refused")
        assert "does not give distance_in_steps" in process.get("/readyz")[1]
        feeder.send(10)
        feeder.flush()
        wait_until(lambda: all_answered(site), what="all requests are answered")
        assert process.ready()
    assert "does not give distance_in_steps" in process.log.read_text()
    assert_each_answered_once(site, feeder)


def test_requests_wait_until_there_is_a_model(site: Site, feeder: Feeder) -> None:
    shutil.rmtree(site.bundle)
    process = ServingProcess(site)
    try:
        wait_until(
            lambda: "no model yet" in process.why_not_ready(), what="it says why", limit_s=60
        )
        feeder.send(5)
        feeder.flush()
        assert process.get("/healthz")[0] == 200
        assert not all_answered(site)
        a_bundle(site.bundle, FLIGHT_DELAY)
        wait_until(process.ready, what="it is ready")
        wait_until(lambda: all_answered(site), what="all requests are answered")
        assert process.stop() == 0
    finally:
        if process.ended is None:
            process.kill()
    assert_each_answered_once(site, feeder)


def test_two_processes_share_the_work_and_either_may_leave(site: Site, feeder: Feeder) -> None:
    with serving(site, instance="one") as first, serving(site, instance="two") as second:
        wait_until(lambda: owned(first) == owned(second) == 2, what="each has two partitions")
        feeder.send(1_000, poison_each=100)
        assert second.stop() == 0
        feeder.send(1_000)
        feeder.flush()
        wait_until(lambda: owned(first) == 4, what="the first has all partitions")
        wait_until(lambda: all_answered(site), what="all requests are answered", limit_s=60)
        assert first.stop() == 0
    assert_each_answered_once(site, feeder)


def owned(process: ServingProcess) -> int:
    match = re.search(r"^eventide_serving_partitions_owned (\S+)", process.get("/metrics")[1], re.M)
    return int(float(match[1])) if match else 0


def test_a_second_process_of_the_same_name_fences_the_first(site: Site, feeder: Feeder) -> None:
    with serving(site) as first, serving(site) as second:

        def one_is_fenced() -> bool:
            feeder.send(20)
            feeder.flush()
            return first.ended is not None or second.ended is not None

        wait_until(one_is_fenced, what="one of the two ends", limit_s=60)
        assert {first.ended, second.ended} == {3, None}
        wait_until(lambda: all_answered(site), what="all requests are answered", limit_s=60)
    assert_each_answered_once(site, feeder)


def test_a_second_signal_ends_serving_at_once(site: Site) -> None:
    with serving(site) as process:
        process.process.send_signal(signal.SIGTERM)
        process.process.send_signal(signal.SIGINT)
        assert process.process.wait(60) in (0, 130)

"""Served features equal those of history or are marked: with ingest behind, ahead and stopped."""

import signal
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from functools import partial
from math import log
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from features.bootstrap.stores import open_offline
from features.catalog.flights.events import DEPARTED, REQUESTED, FlightDeparted
from features.catalog.flights.services import FLIGHT_DELAY, LATE_15
from features.contracts.codec import encode
from features.contracts.predictions import Outcome
from features.retrieval.historical import training_rows
from infra.clock import HOUR, MINUTE, to_us
from infra.kafka.admin import end_offsets
from infra.kafka.transactions import ProducerRecord, TransactionalProducer
from infra.settings import KafkaSettings, Settings
from ml.bundle.format import Linear, write_bundle
from ml.bundle.scoring import Bundle
from tests.support.data.bundles import a_bundle, a_model_file
from tests.support.data.messages import NOON_US, a_request
from tests.support.data.recordings import FOLDER, flights_file
from tests.support.processes.commands import environment, run
from tests.support.processes.ingest import Source, audited, ingesting, wait_until_done
from tests.support.processes.serving import Site, all_answered, outcomes, prepare_site, serving
from tests.support.servers import kafka_broker
from tests.support.waiting import wait_until

COUNT = "origin_departures_count_24h"
PER_FLIGHT = 0.01  # what one departure adds to the log odds
LONG_MS = 60_000
WAITED = 'eventide_serving_stage_seconds_sum{stage="wait"}'


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A broker and stores of the test's own, because earlier events change what is served."""
    with kafka_broker(tmp_path / "broker") as broker:
        yield prepare_site(
            KafkaSettings(bootstrap_servers=broker.bootstrap_servers), tmp_path / "site"
        )


@pytest.fixture
def source(site: Site) -> Source:
    return Source(site.kafka)


def a_counting_bundle(folder: Path) -> None:
    """A model whose score reveals one feature: `COUNT`."""
    model = a_model_file(FLIGHT_DELAY)
    weights = [0.0] * sum(block.width for block in model.encoder)
    scale = model.encoder[-1].scale  # type: ignore[union-attr]  # the block of numbers
    at = FLIGHT_DELAY.numbers.index(COUNT)
    weights[len(FLIGHT_DELAY.categories) + at] = PER_FLIGHT * scale[at]  # type: ignore[index]
    write_bundle(
        folder,
        msgspec.structs.replace(model, estimator=Linear(weights=tuple(weights), intercept=0.0)),
    )


def counted(outcome: Outcome) -> float:
    """The feature that the score of `a_counting_bundle` reveals."""
    assert outcome.score is not None
    return round(log(outcome.score / (1 - outcome.score)) / PER_FLIGHT, 6)


def departure(event_id: str, minutes_before_noon: int) -> FlightDeparted:
    return FlightDeparted(
        event_id=event_id,
        event_time_us=NOON_US - minutes_before_noon * MINUTE,
        flight_id=event_id,
        carrier="AA",
        flight=1,
        origin="JFK",
        dest="LAX",
        tailnum=None,
        departure_delay_minutes=0,
    )


def depart(source: Source, *events: FlightDeparted) -> None:
    for event in events:
        source.put(
            DEPARTED.name,
            encode(event),
            key=event.flight_id.encode(),
            timestamp_ms=event.event_time_us // 1_000,
        )
    source.flush()


def send_request(source: Source, event_id: str) -> None:
    request = a_request(event_id)
    source.put(
        REQUESTED.name,
        encode(request),
        key=request.flight_id.encode(),
        timestamp_ms=NOON_US // 1_000,
    )
    source.flush()


def outcome_of(site: Site, event_id: str) -> Outcome:
    """The outcome of a request, as soon as there is one."""
    matching: list[Outcome] = []

    def has_outcome() -> bool:
        matching.extend(o for _, o in outcomes(site) if o.event_id == event_id)
        return bool(matching)

    wait_until(has_outcome, what=f"{event_id} is answered", limit_s=90)
    return matching[0]


def test_a_request_waits_for_the_event_sent_just_before_it(site: Site, source: Source) -> None:
    a_counting_bundle(site.bundle)
    with (
        ingesting(site.state, site.kafka.bootstrap_servers) as ingest,
        serving(site, max_wait_ms=LONG_MS) as process,
    ):
        depart(source, departure("first", 30))
        wait_until_done(site.kafka)
        ingest.process.send_signal(signal.SIGSTOP)
        try:
            depart(source, departure("second", 1))
            send_request(source, "r1")
            records_behind = partial(process.metric, "eventide_serving_ingest_behind_records")
            wait_until(
                lambda: records_behind() == 1,
                what="serving knows how far ingest is behind",
                limit_s=60,
            )
            assert not outcomes(site)
        finally:
            ingest.process.send_signal(signal.SIGCONT)
        outcome = outcome_of(site, "r1")
    assert (counted(outcome), outcome.features_fresh, outcome.features_exact) == (2, True, True)


def test_without_ingest_only_the_first_batch_waits_and_all_outcomes_are_marked_stale(
    site: Site, source: Source
) -> None:
    a_counting_bundle(site.bundle)
    depart(source, departure("first", 30))
    bound_s = 3
    with serving(site, max_wait_ms=bound_s * 1_000) as process:
        for n in range(4):
            send_request(source, f"r{n}")
            outcome = outcome_of(site, f"r{n}")
            assert (counted(outcome), outcome.features_fresh) == (0, False)
        wait_until(lambda: process.metric(WAITED) >= bound_s, what="one has waited", limit_s=60)
        assert process.metric(WAITED) < 2 * bound_s
        assert process.metric("eventide_serving_features_stale_total") == 4
        assert process.ready()
        assert audited(site.state, site.kafka.bootstrap_servers)["totals"]["requests"]["stale"] == 4

        with ingesting(site.state, site.kafka.bootstrap_servers):
            wait_until_done(site.kafka)
            send_request(source, "r4")
            outcome = outcome_of(site, "r4")
    assert (counted(outcome), outcome.features_fresh) == (1, True)


def test_idle_partitions_and_transaction_markers_make_nothing_stale(
    site: Site, source: Source
) -> None:
    a_counting_bundle(site.bundle)
    event = departure("first", 30)
    with (
        closing(TransactionalProducer(site.kafka, transactional_id="a-source")) as sender,
        ingesting(site.state, site.kafka.bootstrap_servers),
        serving(site, max_wait_ms=LONG_MS),
    ):
        sender.send_all(
            [
                ProducerRecord(
                    topic=DEPARTED.name,
                    key=event.flight_id.encode(),
                    value=encode(event),
                    timestamp_ms=event.event_time_us // 1_000,
                )
            ]
        )
        send_request(source, "r1")
        outcome = outcome_of(site, "r1")
    ends = end_offsets(site.kafka, [DEPARTED.name])
    assert sorted(ends.values()) == [0, 0, 0, 2]
    assert (counted(outcome), outcome.features_fresh) == (1, True)


DAY = 24 * HOUR
JANUARY = to_us(date(2013, 1, 1))


def replay_env(site: Site) -> dict[str, str]:
    flights_file()
    return environment(site.state, site.kafka.bootstrap_servers, EVENTIDE_RECORDINGS=str(FOLDER))


def served(site: Site, bundle: Bundle) -> pl.DataFrame:
    """Every prediction beside the score of the same model for the features of history."""
    predictions = [o for _, o in outcomes(site)]
    assert {o.outcome for o in predictions} == {"predicted"}
    frame = pl.DataFrame(
        {
            "entity_id": [o.entity_id for o in predictions],
            "decision_time_us": [o.decision_time_us for o in predictions],
            "score": [o.score for o in predictions],
            "missing": [o.features_missing for o in predictions],
            "exact": [o.features_exact for o in predictions],
            "fresh": [o.features_fresh for o in predictions],
        }
    )
    until = int(frame["decision_time_us"].to_numpy().max()) + 1
    store = open_offline(Settings(state_dir=site.state))
    history = training_rows(
        FLIGHT_DELAY, LATE_15, store, start_us=0, end_us=until, known_before_us=until
    ).frame
    numbers = history.select(FLIGHT_DELAY.numbers).to_numpy()
    scores = bundle.score(
        {name: history[name].to_list() for name in FLIGHT_DELAY.categories}, numbers
    )
    historical = history.select("entity_id", "decision_time_us").with_columns(
        pl.Series("past_score", scores), pl.Series("past_missing", np.isnan(numbers).sum(axis=1))
    )
    joined = frame.join(historical, on=["entity_id", "decision_time_us"], how="left")
    assert joined.height == frame.height
    # A difference of one minute or one flight in any feature changes a score by more than 1e-7.
    equal = (pl.col("score") - pl.col("past_score")).abs() < 1e-10
    return joined.with_columns(equal=equal & (pl.col("missing") == pl.col("past_missing")))


@pytest.mark.parametrize("max_wait_ms", [0, LONG_MS])
def test_a_replay_at_full_speed_serves_the_features_of_history_or_marks_them(
    site: Site, max_wait_ms: int
) -> None:
    bundle = Bundle.load(site.bundle, a_bundle(site.bundle, FLIGHT_DELAY))
    env = replay_env(site)
    with (
        ingesting(site.state, site.kafka.bootstrap_servers),
        serving(site, max_wait_ms=max_wait_ms),
    ):
        run("replay", "flights", "--until", "2013-01-08", env=env)
        wait_until_done(site.kafka)
        wait_until(lambda: all_answered(site), what="all requests are answered", limit_s=120)
    predictions = served(site, bundle)
    unmarked = predictions.filter("exact", "fresh")
    assert unmarked["equal"].all()
    if max_wait_ms:
        assert unmarked.height == predictions.height
    else:
        assert not predictions["fresh"].all()


def test_ingest_keeps_the_values_that_a_reader_hours_behind_still_needs(site: Site) -> None:
    least, most = 1, 36
    bundle = Bundle.load(site.bundle, a_bundle(site.bundle, FLIGHT_DELAY))
    hold = {
        "EVENTIDE_INGEST__HOLD_HOURS": str(least),
        "EVENTIDE_INGEST__HOLD_HOURS_MAX": str(most),
    }
    with ingesting(site.state, site.kafka.bootstrap_servers, **hold):
        run("replay", "flights", "--until", "2013-01-06", env=replay_env(site))
        wait_until_done(site.kafka)
        with serving(site, max_wait_ms=LONG_MS):
            wait_until(lambda: all_answered(site), what="all requests are answered", limit_s=120)
    predictions = served(site, bundle)
    within = pl.col("decision_time_us") >= JANUARY + 5 * DAY - most * HOUR
    assert predictions["fresh"].all()
    assert predictions.filter(within).height > 500
    assert predictions.filter(within)["exact"].all()
    assert predictions.filter("exact")["equal"].all()
    assert not predictions["exact"].all()

"""Two domains in one installation: one ingest, one group of serving processes, one audit."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.bootstrap.stores import open_offline
from features.catalog import flights as flights_domain
from features.catalog import purchases as purchases_domain
from features.catalog.flights.events import REQUESTED as FORECAST_OF_A_FLIGHT
from features.catalog.purchases.events import REQUESTED
from features.retrieval.historical import training_rows
from infra.clock import DAY
from infra.settings import KafkaSettings, Settings
from ml.bundle.scoring import Bundle
from ml.projects import flight_delay, repeat_purchase
from tests.support.data.bundles import a_bundle
from tests.support.data.recordings import FOLDER, flights, flights_file, purchases, purchases_file
from tests.support.processes.commands import environment, run, running
from tests.support.processes.serving import Site, outcomes, prepare_site, serving
from tests.support.servers import kafka_broker

PROJECT = repeat_purchase.PROJECT
PURCHASES_UNTIL_US = 853_286_400_000_000  # 1997-01-15
FLIGHTS_UNTIL_US = (
    1_357_041_600_000_000  # 2013-01-01 12:00; the first predictions are requested at 09:15
)
FORECASTS = purchases_domain.DOMAIN.predictions_topic


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    """A broker of this module's own: replay sends to topics whose names are declared."""
    with kafka_broker(tmp_path_factory.mktemp("broker")) as broker:
        yield KafkaSettings(bootstrap_servers=broker.bootstrap_servers)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def bundle_sha256(state: Path) -> str:
    """A bundle for each project; the sha256 of the second's."""
    a_bundle(state / "bundle", flight_delay.PROJECT.service)
    return a_bundle(state / f"bundle{PROJECT.name}", PROJECT.service)


@pytest.fixture(scope="module")
def site(kafka: KafkaSettings, state: Path, bundle_sha256: str) -> Site:
    """Both recordings were replayed in step while both projects were served."""
    flights_file(), purchases_file()
    prepared = prepare_site(kafka, state)
    env = environment(state, kafka.bootstrap_servers, EVENTIDE_RECORDINGS=str(FOLDER))
    with running("ingest", "--health-port", "0", env=env, log=state / "ingest.log") as ingest:
        with serving(prepared) as first, serving(prepared, project=PROJECT.name) as second:
            step = ("--lockstep", "--wait")
            run("replay", "purchases", "--until", "1997-01-15", *step, env=env)
            run("replay", "flights", "--until", "2013-01-01T12:00:00Z", *step, env=env)
            assert (first.ended, second.ended) == (None, None)
            audit = run("audit", "--settled", "--json", env=env, ok=False)
            (state / "audit.json").write_text(audit.stdout)
            assert audit.returncode == 0, audit.stdout
            assert (first.stop(), second.stop()) == (0, 0)
        ingest.send_signal(signal.SIGTERM)
        assert ingest.wait(30) == 0
    return prepared


def test_each_project_answers_its_own_requests_once(site: Site) -> None:
    for recorded, until_us, request, topic, model in (
        (purchases(), PURCHASES_UNTIL_US, REQUESTED, FORECASTS, PROJECT.name),
        (
            flights(),
            FLIGHTS_UNTIL_US,
            FORECAST_OF_A_FLIGHT,
            flights_domain.DOMAIN.predictions_topic,
            flight_delay.PROJECT.name,
        ),
    ):
        requests = recorded.filter(pl.col("known_at_us") < until_us).filter(event=request.name)
        predictions = [outcome for _, outcome in outcomes(site, topic)]
        assert sorted(o.event_id or "" for o in predictions) == sorted(requests["event_id"])
        assert {(o.outcome, o.model) for o in predictions} == {("predicted", model)}


def test_the_audit_counts_both_domains(site: Site) -> None:
    audit = json.loads((site.state / "audit.json").read_text())
    assert {r["topic"] for r in audit["requests"]} == {REQUESTED.name, FORECAST_OF_A_FLIGHT.name}
    assert audit["online"]["values_checked"] > 0


def test_the_served_scores_are_those_of_history(site: Site, bundle_sha256: str) -> None:
    store = open_offline(Settings(state_dir=site.state))
    rows = training_rows(
        PROJECT.service,
        PROJECT.label,
        store,
        start_us=0,
        end_us=PURCHASES_UNTIL_US,
        known_before_us=PURCHASES_UNTIL_US,
        ready_tolerance_us=DAY,
    ).frame
    bundle = Bundle.load(site.bundle_of(PROJECT.name), bundle_sha256)
    scores = bundle.score({}, rows.select(PROJECT.service.numbers).to_numpy())
    history = dict(zip(rows.select("entity_id", "decision_time_us").rows(), scores, strict=True))
    live = {(o.entity_id, o.decision_time_us): o for _, o in outcomes(site, FORECASTS)}
    assert set(live) == set(history)
    assert all(o.features_exact for o in live.values())
    assert len(np.unique(scores)) > 100
    # Equal values may give scores that differ in the last bit: the rounding of a matrix product
    # depends on its shape, and serving scores batches of other sizes.
    assert {k: o.score for k, o in live.items()} == pytest.approx(history, abs=1e-12)

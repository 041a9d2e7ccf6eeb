"""The second project through every step, on a real MLflow and a real Great Expectations."""

import os
import warnings
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from features.catalog.purchases import DOMAIN
from features.retrieval.historical import training_rows
from infra.clock import DAY, HOUR, to_us
from ml.adapters.matplotlib import Plots
from ml.bootstrap import set_switches
from ml.ports import History
from ml.projects.repeat_purchase import PROJECT
from ml.steps.evaluate import champion_of, evaluate
from ml.steps.extract import extract
from ml.steps.gate import apply_gates
from ml.steps.promote import promote
from ml.steps.register import register
from ml.steps.train import train
from ml.steps.validate import validate
from tests.support.data.recordings import purchases
from tests.support.recorded_store import stored
from tests.support.servers import MLFLOW_LOGIN

set_switches(os.environ)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the libraries use deprecated Python; we cannot fix that
    from ml.adapters.great_expectations import GreatExpectations
    from ml.adapters.mlflow import MlflowExperiments, MlflowRegistry

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]

RUN_DAY = date(1997, 6, 30)
CUTOFF_US = to_us(RUN_DAY) + HOUR
COUNT, AGE = "customer_purchases_count_7d", "customer_purchases_since_last_84d"


@pytest.fixture(scope="module")
def history() -> History:
    purchased = purchases().filter(pl.col("known_at_us") < CUTOFF_US)
    return partial(training_rows, store=stored(purchased, DOMAIN))


@pytest.fixture(scope="module")
def good(history: History) -> pl.DataFrame:
    rows = history(
        PROJECT.service,
        PROJECT.label,
        start_us=0,
        end_us=CUTOFF_US - 29 * DAY,
        known_before_us=CUTOFF_US,
    )
    return rows.frame.drop("label_known_at_us")


def test_the_first_candidate_is_promoted_and_serves(
    history: History, mlflow_url: str, tmp_path: Path
) -> None:
    experiments = MlflowExperiments(mlflow_url, login=MLFLOW_LOGIN)
    registry = MlflowRegistry(mlflow_url, login=MLFLOW_LOGIN)
    snapshot = extract(PROJECT, RUN_DAY, history=history, work=tmp_path)
    validation = validate(
        PROJECT, snapshot, examiner=GreatExpectations, experiments=lambda: experiments
    )
    assert validation.findings == ()
    fits = [train(PROJECT, snapshot, learner.name) for learner in PROJECT.learners]
    evaluation = evaluate(
        PROJECT,
        snapshot,
        validation,
        fits,
        experiments=experiments,
        registry=registry,
        plotter=Plots(),
    )
    verdict = apply_gates(PROJECT, snapshot, evaluation)
    assert verdict.reasons == ()
    registration = register(PROJECT, snapshot, evaluation, verdict, registry=registry)
    promote(PROJECT, registration, verdict, registry=registry, work=tmp_path, now_us=1)
    champion = champion_of(registry, PROJECT)
    assert champion is not None
    assert champion.bundle.categories == ()
    columns = PROJECT.columns_of(PROJECT.learner(verdict.candidate), without=snapshot.unusable)
    assert set(champion.bundle.numbers) == set(columns) - set(PROJECT.service.categories)


def spoil(column: str, value: object, *, share: int = 1) -> Callable[[pl.DataFrame], pl.DataFrame]:
    rows = pl.int_range(pl.len()) % share == 0
    return lambda frame: frame.with_columns(
        pl.when(rows).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)
    )


BREAKS: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "each row is a customer": spoil("entity_id", None, share=1_000),
    "a customer is asked about once a day": lambda frame: pl.concat([frame, frame.head(1)]),
    "came back or not": spoil("label", 2, share=1_000),
    "monthly shares": spoil("label", 1),
    "a forecast follows a purchase": spoil(COUNT, 0.0, share=50),
    "the same: that purchase": spoil(AGE, 2_000.0, share=50),
    "amounts in dollars": lambda frame: frame.with_columns(
        pl.col("customer_purchases_mean_cents_84d") / 100
    ),
}


def test_every_expectation_has_its_bad_example_here() -> None:
    assert len(BREAKS) == len(PROJECT.expectations)


@pytest.mark.parametrize("why", BREAKS)
def test_a_broken_expectation_is_reported_with_its_reason(
    why: str, good: pl.DataFrame, tmp_path: Path
) -> None:
    (declared,) = [e for e in PROJECT.expectations if e.why.startswith(why)]
    bad = BREAKS[why](good)
    (finding,) = GreatExpectations().examine(bad.lazy(), [declared], docs=tmp_path)
    assert (finding.severity, finding.why) == (declared.severity, declared.why)
    assert "could not be checked" not in finding.observed

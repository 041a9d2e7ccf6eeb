"""The second model, trained on real purchases without a server or Airflow."""

from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.catalog.purchases import DOMAIN
from features.definitions import Float64Array, Int64Array
from features.retrieval.historical import training_rows
from infra.clock import DAY, HOUR, span_us, to_us
from ml.evaluation.metrics import bias, day_block_interval, log_losses
from ml.evaluation.split import day_blocks
from ml.ports import History
from ml.project import When
from ml.projects.repeat_purchase import PROJECT
from ml.results import Snapshot
from ml.steps.extract import extract
from ml.steps.train import train
from tests.support.data.recordings import purchases
from tests.support.recorded_store import stored

RUN_DAY = date(1997, 6, 30)
CUTOFF_US = to_us(RUN_DAY) + HOUR
WAIT_US = span_us(PROJECT.label.max_wait)
LEARNERS = PROJECT.learners


@pytest.fixture(scope="module")
def history() -> History:
    """Events known until two weeks after the run of the end of June."""
    events = purchases().filter(pl.col("known_at_us") < CUTOFF_US + 14 * DAY)
    return partial(training_rows, store=stored(events, DOMAIN))


@pytest.fixture(scope="module")
def snapshot(history: History, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return extract(PROJECT, RUN_DAY, history=history, work=tmp_path_factory.mktemp("work"))


def read(snapshot: Snapshot, name: str) -> pl.DataFrame:
    return pl.read_parquet(snapshot.file(f"{name}.parquet"))


def decisions(history: History) -> pl.DataFrame:
    return history(
        PROJECT.service,
        PROJECT.label,
        start_us=0,
        end_us=CUTOFF_US,
        known_before_us=CUTOFF_US,
    ).frame


@pytest.fixture(scope="module")
def expected_labels() -> pl.DataFrame:
    """Whether each customer came back after a day with a purchase, from the gap to the next one."""
    day = pl.col("known_at_us") // DAY
    days = purchases().filter(event="purchase.made").select(entity_id="key", day=day).unique()
    gap = pl.col("day").shift(-1).over("entity_id", order_by="day") - pl.col("day")
    return days.select(
        "entity_id",
        decision_time_us=(pl.col("day") + 1) * DAY,
        came_back=(gap <= 28).fill_null(value=False).cast(pl.Int8),
    ).sort("decision_time_us", "entity_id")


def test_labels_follow_from_the_days_between_two_purchases(
    history: History, expected_labels: pl.DataFrame
) -> None:
    rows = decisions(history)
    mature = rows["decision_time_us"] <= CUTOFF_US - WAIT_US
    expected = expected_labels.filter(pl.col("decision_time_us") <= CUTOFF_US - WAIT_US)
    assert expected.height > 35_000
    assert (
        rows.filter(mature)
        .select("entity_id", "decision_time_us", "label")
        .equals(expected.rename({"came_back": "label"}))
    )
    assert rows.filter(~mature)["label"].is_null().all()


def test_the_last_weeks_of_training_include_customers_who_stayed_away(
    snapshot: Snapshot, expected_labels: pl.DataFrame
) -> None:
    """Returning is known early: without the wait the last weeks would lack those who stay away."""
    training = read(snapshot, "training")
    newest = to_us(date(1997, 4, 5))  # evaluation and two waits before the cut-off
    expected = expected_labels.filter(pl.col("decision_time_us") <= newest)
    assert snapshot.hold_reasons == ()
    assert training.select("entity_id", "decision_time_us", "label").equals(
        expected.rename({"came_back": "label"})
    )


def run_without(*, days_back: tuple[int, int], work: Path) -> Snapshot:
    """The run without the events of this span of days before its cut-off."""
    first, last = (CUTOFF_US - days * DAY for days in days_back)
    events = purchases().filter(~pl.col("known_at_us").is_between(first, last))
    history = partial(training_rows, store=stored(events, DOMAIN))
    return extract(PROJECT, RUN_DAY, history=history, work=work)


@pytest.mark.slow
def test_a_run_with_days_without_purchases_is_held(tmp_path: Path) -> None:
    reasons = run_without(days_back=(40, 35), work=tmp_path).hold_reasons
    assert any("missing_days" in reason for reason in reasons), reasons


@pytest.mark.slow
def test_purchases_lost_after_the_evaluation_appear_as_bias(
    snapshot: Snapshot, tmp_path: Path
) -> None:
    """They look like customers who stay away, and no decision is missing: only the bias gate
    detects it."""
    silent = run_without(days_back=(29, 1), work=tmp_path)
    assert silent.hold_reasons == ()
    usual_bias, biased = (abs(bias_of(s, "boosted_trees")) for s in (snapshot, silent))
    (limit,) = [
        gate.at_most
        for gate in PROJECT.gates
        if gate.measure == "absolute_bias" and gate.when is When.NO_CHAMPION
    ]
    assert limit is not None
    assert usual_bias < limit < biased


@pytest.mark.parametrize("learner", [c.name for c in LEARNERS])
def test_a_learner_without_categories_is_trained_and_its_bundle_scores_alike(
    snapshot: Snapshot, learner: str
) -> None:
    fit = train(PROJECT, snapshot, learner)
    assert fit.parity <= 1e-9
    assert fit.columns == len(PROJECT.learner(learner).columns or ())


def test_candidates_beat_a_constant_and_the_count_of_purchases(snapshot: Snapshot) -> None:
    evaluation = read(snapshot, "evaluation")
    losses = {
        c.name: log_losses(labels_of(snapshot), scores_of(snapshot, c.name)) for c in LEARNERS
    }
    share = read(snapshot, "training")["label"].cast(pl.Float64).to_numpy().mean()
    constant = log_losses(labels_of(snapshot), np.full(len(evaluation), share))
    days = day_blocks(snapshot.window, evaluation["decision_time_us"].to_numpy())
    for candidate in PROJECT.candidates:
        for baseline in (constant, losses[PROJECT.reference.name]):
            assert day_block_interval(losses[candidate.name] - baseline, days, seed=0).upper < 0


def labels_of(snapshot: Snapshot) -> Int64Array:
    return read(snapshot, "evaluation")["label"].cast(pl.Int64).to_numpy()


def scores_of(snapshot: Snapshot, learner: str) -> Float64Array:
    file = train(PROJECT, snapshot, learner).file("scores.parquet")
    return pl.read_parquet(file)["score"].to_numpy()


def bias_of(snapshot: Snapshot, learner: str) -> float:
    return bias(labels_of(snapshot), scores_of(snapshot, learner))


def test_a_run_without_enough_rows_is_held(history: History, tmp_path: Path) -> None:
    early = extract(PROJECT, date(1997, 4, 30), history=history, work=tmp_path)
    assert any("training_rows" in reason for reason in early.hold_reasons), early.hold_reasons

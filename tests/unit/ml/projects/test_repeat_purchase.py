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
def truth() -> pl.DataFrame:
    """What came of each customer's day with a purchase, by the days between two of them."""
    day = pl.col("known_at_us") // DAY
    days = purchases().filter(event="purchase.made").select(entity_id="key", day=day).unique()
    gap = pl.col("day").shift(-1).over("entity_id", order_by="day") - pl.col("day")
    return days.select(
        "entity_id",
        decision_time_us=(pl.col("day") + 1) * DAY,
        came_back=(gap <= 28).fill_null(value=False).cast(pl.Int8),
    ).sort("decision_time_us", "entity_id")


def test_a_label_is_the_days_between_two_purchases(history: History, truth: pl.DataFrame) -> None:
    found = decisions(history)
    ripe = found["decision_time_us"] <= CUTOFF_US - WAIT_US
    expected = truth.filter(pl.col("decision_time_us") <= CUTOFF_US - WAIT_US)
    assert expected.height > 35_000
    assert (
        found.filter(ripe)
        .select("entity_id", "decision_time_us", "label")
        .equals(expected.rename({"came_back": "label"}))
    )
    assert found.filter(~ripe)["label"].is_null().all()


def test_the_last_weeks_of_training_lack_nobody_who_stayed_away(
    snapshot: Snapshot, truth: pl.DataFrame
) -> None:
    """Who comes back is known early: without the wait the last weeks would hold nobody else."""
    training = read(snapshot, "training")
    newest = to_us(date(1997, 4, 5))  # evaluation and two waits before the cut-off
    expected = truth.filter(pl.col("decision_time_us") <= newest)
    assert snapshot.hold_reasons == ()
    assert training.select("entity_id", "decision_time_us", "label").equals(
        expected.rename({"came_back": "label"})
    )


def run_without(*, days_back: tuple[int, int], work: Path) -> Snapshot:
    """The run, when nothing was known from so many days before its cut-off to so many."""
    first, last = (CUTOFF_US - days * DAY for days in days_back)
    events = purchases().filter(~pl.col("known_at_us").is_between(first, last))
    silent = partial(training_rows, store=stored(events, DOMAIN))
    return extract(PROJECT, RUN_DAY, history=silent, work=work)


def test_days_without_purchases_hold_the_run(tmp_path: Path) -> None:
    held = run_without(days_back=(40, 35), work=tmp_path).hold_reasons
    assert any("missing_days" in reason for reason in held), held


def test_purchases_that_are_lost_after_the_evaluation_show_as_bias(
    snapshot: Snapshot, tmp_path: Path
) -> None:
    """They look like customers who stay away, and no decision is missing: the bias gate is all
    that there is against it."""
    silent = run_without(days_back=(29, 1), work=tmp_path)
    assert silent.hold_reasons == ()
    usual, found = (abs(bias_of(s, "boosted_trees")) for s in (snapshot, silent))
    (limit,) = [
        gate.at_most
        for gate in PROJECT.gates
        if gate.measure == "absolute_bias" and gate.when is When.NO_CHAMPION
    ]
    assert limit is not None
    assert usual < limit < found


@pytest.mark.parametrize("learner", [c.name for c in LEARNERS])
def test_a_learner_of_numbers_alone_is_trained_and_its_bundle_scores_alike(
    snapshot: Snapshot, learner: str
) -> None:
    fit = train(PROJECT, snapshot, learner)
    assert fit.parity <= 1e-9
    assert fit.columns == len(PROJECT.learner(learner).columns or ())


def test_it_is_better_than_a_constant_and_than_counting_purchases(snapshot: Snapshot) -> None:
    judged = read(snapshot, "evaluation")
    losses = {
        c.name: log_losses(labels_of(snapshot), scores_of(snapshot, c.name)) for c in LEARNERS
    }
    share = read(snapshot, "training")["label"].cast(pl.Float64).to_numpy().mean()
    constant = log_losses(labels_of(snapshot), np.full(len(judged), share))
    days = day_blocks(snapshot.window, judged["decision_time_us"].to_numpy())
    for candidate in PROJECT.candidates:
        for other in (constant, losses[PROJECT.reference.name]):
            assert day_block_interval(losses[candidate.name] - other, days, seed=0).upper < 0


def labels_of(snapshot: Snapshot) -> Int64Array:
    return read(snapshot, "evaluation")["label"].cast(pl.Int64).to_numpy()


def scores_of(snapshot: Snapshot, learner: str) -> Float64Array:
    file = train(PROJECT, snapshot, learner).file("scores.parquet")
    return pl.read_parquet(file)["score"].to_numpy()


def bias_of(snapshot: Snapshot, learner: str) -> float:
    return bias(labels_of(snapshot), scores_of(snapshot, learner))


def test_before_there_are_enough_rows_a_run_is_held(history: History, tmp_path: Path) -> None:
    early = extract(PROJECT, date(1997, 4, 30), history=history, work=tmp_path)
    assert any("training_rows" in reason for reason in early.hold_reasons), early.hold_reasons

"""Extract and train, without a server: when a run is held, and what is repeated."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.definitions import FeatureService, Label
from features.retrieval.historical import TrainingRows
from infra.clock import DAY, HOUR, span_us, to_us
from ml.errors import UnsupportedPipeline
from ml.evaluation.split import window_of
from ml.project import Candidate
from ml.results import Fit, Snapshot, Validation
from ml.steps.artifacts import once
from ml.steps.extract import extract
from ml.steps.train import train
from ml.training.candidates import logistic_regression
from tests.support.data.flight_history import SyntheticHistory
from tests.support.data.small_project import DAY as RUN_DAY
from tests.support.data.small_project import ROWS_A_DAY, small_project

PROJECT = small_project()
WINDOW = window_of(PROJECT, RUN_DAY)
EVALUATED = pl.col("decision_time_us") >= WINDOW.evaluation_start_us
WIND = "origin_weather_last_wind_speed_mph_6h"


def snapshot_of(work: Path, **history: Any) -> Snapshot:
    synthetic = SyntheticHistory(rows_a_day=ROWS_A_DAY, **history)
    return extract(PROJECT, RUN_DAY, history=synthetic, work=work)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return snapshot_of(tmp_path_factory.mktemp("work"))


def read(snapshot: Snapshot, name: str) -> pl.DataFrame:
    return pl.read_parquet(snapshot.file(f"{name}.parquet"))


def test_training_ends_before_the_evaluation_begins(snapshot: Snapshot) -> None:
    training, evaluation = read(snapshot, "training"), read(snapshot, "evaluation")
    assert snapshot.hold_reasons == ()
    assert training["label"].null_count() == 0
    first_decision = evaluation["decision_time_us"].min()
    assert isinstance(first_decision, int)
    assert (training["label_known_at_us"] < first_decision).all()
    assert evaluation["decision_time_us"].max() - first_decision < 7 * DAY  # type: ignore[operator]


def test_columns_are_in_the_order_of_the_model(snapshot: Snapshot) -> None:
    assert tuple(read(snapshot, "training").columns[2:-2]) == PROJECT.columns


@dataclass(frozen=True, kw_only=True)
class GrownHistory:
    """A history that has gone on: labels and decisions that became known after the cut-off."""

    def __call__(
        self,
        service: FeatureService,
        label: Label,
        *,
        start_us: int,
        end_us: int,
        known_before_us: int,
    ) -> TrainingRows:
        rows = SyntheticHistory(rows_a_day=ROWS_A_DAY)(
            service, label, start_us=start_us, end_us=end_us, known_before_us=known_before_us
        )
        if known_before_us <= WINDOW.cutoff_us:
            return rows
        news = rows.frame.head(50).with_columns(
            entity_id=pl.lit("news ") + pl.col("entity_id"), label=1 - pl.col("label")
        )
        return replace(rows, frame=pl.concat([news, rows.frame]))


def test_events_known_after_the_cut_off_change_nothing(snapshot: Snapshot, tmp_path: Path) -> None:
    later = extract(PROJECT, RUN_DAY, history=GrownHistory(), work=tmp_path)
    assert later.sha256 == snapshot.sha256
    assert later.key == snapshot.key


def test_history_is_read_as_it_was_known_at_the_cut_off(tmp_path: Path) -> None:
    asked = []

    def history(service: FeatureService, label: Label, **times: Any) -> TrainingRows:
        asked.append(times)
        return SyntheticHistory(rows_a_day=ROWS_A_DAY)(service, label, **times)

    extract(PROJECT, RUN_DAY, history=history, work=tmp_path)
    cut_off_us = to_us(RUN_DAY) + span_us(PROJECT.cutoff)
    assert asked == [
        {
            "start_us": WINDOW.training_start_us,
            "end_us": cut_off_us - span_us(PROJECT.label.max_wait),
            "known_before_us": cut_off_us,
        }
    ]


def test_a_run_reads_what_was_known_at_its_cut_off_and_decided_a_wait_before(
    tmp_path: Path,
) -> None:
    spans: list[tuple[int, int, int]] = []

    def history(service: FeatureService, label: Label, **span: int) -> TrainingRows:
        spans.append((span["start_us"], span["end_us"], span["known_before_us"]))
        return SyntheticHistory(rows_a_day=ROWS_A_DAY)(service, label, **span)

    extract(PROJECT, RUN_DAY, history=history, work=tmp_path)
    cutoff = to_us(RUN_DAY) + 9 * HOUR
    assert spans == [(cutoff - DAY - 7 * DAY - 400 * DAY, cutoff - DAY, cutoff)]


@pytest.mark.slow
def test_whoever_comes_second_keeps_what_is_there(tmp_path: Path) -> None:
    """Another process extracts and trains the same day while this one reads."""
    fits: list[Fit] = []

    def history(service: FeatureService, label: Label, **span: int) -> TrainingRows:
        other = snapshot_of(tmp_path)
        fits.append(train(PROJECT, other, "logistic"))
        return SyntheticHistory(rows_a_day=ROWS_A_DAY)(service, label, **span)

    snapshot = extract(PROJECT, RUN_DAY, history=history, work=tmp_path)
    (fit,) = fits
    assert fit.file("model.skops").is_file()
    assert train(PROJECT, snapshot, "logistic") == fit
    assert [p for p in Path(snapshot.folder).parent.iterdir() if p.name.startswith(".new")] == []


def test_of_two_calls_at_once_the_second_keeps_the_result_of_the_first(tmp_path: Path) -> None:
    """The other call ends while this one works, and has left more in its folder since."""
    folder = tmp_path / "result"

    def slow(fresh: Path) -> Validation:
        other = once(folder, Validation, lambda _: Validation(expectations=1, findings=()))
        (folder / "fit").touch()
        assert other.expectations == 1
        return Validation(expectations=2, findings=())

    assert once(folder, Validation, slow).expectations == 1
    assert sorted(f.name for f in folder.iterdir()) == ["fit", "result.json"]
    assert [f.name for f in tmp_path.iterdir()] == ["result"]


def test_what_a_call_without_a_result_has_left_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "result"
    folder.mkdir()
    (folder / "half").touch()
    once(folder, Validation, lambda _: Validation(expectations=1, findings=()))
    assert [f.name for f in folder.iterdir()] == ["result.json"]


def test_the_same_data_give_the_same_folder_unchanged(snapshot: Snapshot) -> None:
    times_before = {f: f.stat().st_mtime_ns for f in Path(snapshot.folder).iterdir()}
    repeated = snapshot_of(Path(snapshot.folder).parents[2])
    assert repeated == snapshot
    assert {f: f.stat().st_mtime_ns for f in Path(snapshot.folder).iterdir()} == times_before


def test_one_changed_value_is_another_snapshot(snapshot: Snapshot, tmp_path: Path) -> None:
    changed = snapshot_of(
        tmp_path,
        change=lambda f: f.with_columns(
            weekday=pl.when(pl.int_range(pl.len()) == 7).then(3.5).otherwise(pl.col("weekday"))
        ),
    )
    assert changed.key != snapshot.key


def test_another_declaration_is_another_key(snapshot: Snapshot, tmp_path: Path) -> None:
    other_project = small_project(seed=1)
    synthetic = SyntheticHistory(rows_a_day=ROWS_A_DAY)
    assert extract(other_project, RUN_DAY, history=synthetic, work=tmp_path).key != snapshot.key


def lost_labels(frame: pl.DataFrame) -> pl.DataFrame:
    missing = EVALUATED & (pl.int_range(pl.len()) % 5 == 0)
    return frame.with_columns(label=pl.when(missing).then(None).otherwise(pl.col("label")))


def without_values(column: str, *, when: Any, share: int = 1) -> Callable[[Any], pl.DataFrame]:
    missing = when & (pl.int_range(pl.len()) % share == 0)
    return lambda frame: frame.with_columns(
        pl.when(missing).then(float("nan")).otherwise(pl.col(column)).alias(column)
    )


def without_a_day(frame: pl.DataFrame) -> pl.DataFrame:
    start = WINDOW.evaluation_start_us + 2 * DAY
    return frame.filter(~pl.col("decision_time_us").is_between(start, start + DAY, closed="left"))


SEVENTH = pl.int_range(pl.len()) == 7

HOLDS: dict[str, tuple[Any, str]] = {
    "too few rows to learn from": ({"first_day": "2013-01-12"}, "training_rows"),
    "too few rows to judge on": (
        {"change": lambda f: f.filter(~EVALUATED | (pl.int_range(pl.len()) % 2 == 0))},
        "evaluation_rows",
    ),
    "a day is missing": ({"change": without_a_day}, "missing_days"),
    "labels were lost": ({"change": lost_labels}, "label_completeness"),
    "a source went silent": (
        {"change": without_values(WIND, when=EVALUATED)},
        f"without a value in the evaluation: {WIND}",
    ),
    "a source is going silent": (
        {"change": without_values(WIND, when=EVALUATED, share=4)},
        f"lost most values: {WIND}",
    ),
    "all flights were on time": (
        {"change": lambda f: f.with_columns(label=pl.col("label") * 0)},
        "both outcomes",
    ),
    "all later flights were on time": (
        {"change": lambda f: f.with_columns(label=pl.col("label") * (~EVALUATED).cast(pl.Int8))},
        "the evaluation needs decisions of both outcomes",
    ),
    "a number is infinite": (
        {
            "change": lambda f: f.with_columns(
                weekday=pl.when(pl.int_range(pl.len()) == 7)
                .then(-np.inf)
                .otherwise(pl.col("weekday"))
            )
        },
        "the column weekday has 1 infinite values",
    ),
    "a label was known before its decision": (
        {
            "change": lambda f: f.with_columns(
                label_known_at_us=pl.when(SEVENTH)
                .then(pl.col("decision_time_us") - 1)
                .otherwise(pl.col("label_known_at_us"))
            )
        },
        "labels_before_decision 1, wanted at most 0",
    ),
    "there is nothing at all": ({"first_day": "2013-03-01"}, "training_rows"),
}


@pytest.mark.parametrize("case", HOLDS)
def test_data_that_no_model_can_be_trained_on_are_held_with_the_reason(
    case: str, tmp_path: Path
) -> None:
    history, reason = HOLDS[case]
    reasons = snapshot_of(tmp_path, **history).hold_reasons
    assert any(reason in text for text in reasons), reasons


def test_a_column_without_any_value_is_omitted_and_the_rest_is_trained_on(tmp_path: Path) -> None:
    empty = without_values(WIND, when=pl.lit(value=True))
    without_wind = snapshot_of(tmp_path, change=empty)
    assert (without_wind.unusable, without_wind.hold_reasons) == ((WIND,), ())
    fit = train(PROJECT, without_wind, "boosted_trees")
    assert fit.columns == len(PROJECT.columns) - 1


@pytest.mark.parametrize("learner", [c.name for c in PROJECT.learners])
def test_a_learner_is_trained_once_and_its_bundle_scores_alike(
    snapshot: Snapshot, learner: str
) -> None:
    fit = train(PROJECT, snapshot, learner)
    time_before = fit.file("model.skops").stat().st_mtime_ns
    assert fit.parity <= 1e-9
    assert read(snapshot, "evaluation").height == pl.read_parquet(fit.file("scores.parquet")).height
    assert train(PROJECT, snapshot, learner) == fit
    assert fit.file("model.skops").stat().st_mtime_ns == time_before


def test_training_again_elsewhere_gives_the_same_bytes(snapshot: Snapshot, tmp_path: Path) -> None:
    elsewhere = snapshot_of(tmp_path)
    names = ("boosted_trees", "logistic")
    hashes, hashes_elsewhere = (
        [_bundle(train(PROJECT, s, n)) for n in names] for s in (snapshot, elsewhere)
    )
    assert hashes == hashes_elsewhere


def _bundle(fit: Fit) -> str:
    return fit.bundle_sha256


def test_a_candidate_that_serving_would_score_differently_is_refused(
    tmp_path: Path,
) -> None:
    def uncentred(categories: Any, numbers: Any, *, seed: int) -> Any:
        """Numbers are scaled but not centred, which a bundle cannot express."""
        pipeline = logistic_regression(categories, numbers, seed=seed, solver="newton-cholesky")
        scaled = pipeline.named_steps["columns"].transformers[-1][1]
        scaled.set_params(scale__with_mean=False)
        return pipeline

    project = small_project(candidates=(Candidate(name="uncentred", build=uncentred),))
    with pytest.raises(UnsupportedPipeline, match="differently"):
        train(project, snapshot_of(tmp_path), "uncentred")
    assert not list(tmp_path.rglob("fits/uncentred"))

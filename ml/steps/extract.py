"""Makes the training set of a run, and decides whether a model can be trained on it."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from features.definitions import BoolArray
from features.retrieval.content_hash import content_sha256
from features.retrieval.historical import TrainingRows
from ml.evaluation.default_gates import STANDARD_DATA_GATES
from ml.evaluation.gates import GateResult, check_data, reasons
from ml.evaluation.null_rates import NullReport, null_report
from ml.evaluation.split import Window, in_evaluation, in_training, missing_days, window_of
from ml.ports import History
from ml.project import ModelProject
from ml.results import Snapshot
from ml.steps.artifacts import once, run_key, write_json

if TYPE_CHECKING:
    import polars as pl

NEVER_US = np.iinfo(np.int64).max


def extract(project: ModelProject, day: date, *, history: History, work: Path) -> Snapshot:
    """Read the decisions that were known at the day's cut-off and split them by time.

    The rows are read each time; equal rows lead to the folder of the earlier run.

    Raises:
        DataNotReady: the store does not yet hold all that was known at the cut-off.
    """
    window = window_of(project, day)
    rows = _read(project, window, history)
    frame = _tidy(rows.frame, project)
    sha256 = content_sha256(frame)
    key = run_key(project, sha256)
    folder = work.resolve() / project.name / window.day / key

    def write(fresh: Path) -> Snapshot:
        training, evaluation = _split(frame, window)
        training.write_parquet(fresh / "training.parquet")
        evaluation.write_parquet(fresh / "evaluation.parquet")
        write_json(
            fresh / "manifest.json", {**msgspec.to_builtins(rows.manifest), "split_sha256": sha256}
        )
        nulls = _nulls(project, training, evaluation)
        measures = _measures(frame, training, evaluation, window=window, nulls=nulls)
        results = check_data((*STANDARD_DATA_GATES, *project.gates), measures)
        return Snapshot(
            project=project.name,
            window=window,
            key=key,
            folder=str(folder),
            sha256=sha256,
            training_rows=len(training),
            evaluation_rows=_labelled(evaluation),
            unusable=nulls.unusable,
            measures=measures,
            checks=tuple(results),
            hold_reasons=(
                *_hold_reasons(results, nulls),
                *_lacking_outcomes(training, evaluation),
                *_infinite_columns(project, training, evaluation),
            ),
        )

    return once(folder, Snapshot, write)


def _read(project: ModelProject, window: Window, history: History) -> TrainingRows:
    return history(
        project.service,
        project.label,
        start_us=window.training_start_us,
        end_us=window.evaluation_end_us,
        known_before_us=window.cutoff_us,
    )


def _tidy(frame: pl.DataFrame, project: ModelProject) -> pl.DataFrame:
    """Columns in the model's order; a missing number is NaN, a missing text the empty text."""
    import polars as pl

    return frame.select(
        "entity_id",
        "decision_time_us",
        *(pl.col(c).cast(pl.String).fill_null("") for c in project.service.categories),
        *(pl.col(c).cast(pl.Float64).fill_null(float("nan")) for c in project.service.numbers),
        pl.col("label").cast(pl.Int8),
        "label_known_at_us",
    ).sort("decision_time_us", "entity_id")


def _split(frame: pl.DataFrame, window: Window) -> tuple[pl.DataFrame, pl.DataFrame]:
    decided = frame["decision_time_us"].to_numpy()
    known = frame["label_known_at_us"].fill_null(NEVER_US).to_numpy()
    trained_on: BoolArray = in_training(window, decided_us=decided, known_us=known)
    judged = in_evaluation(window, decided_us=decided)
    return _rows(frame, trained_on), _rows(frame, judged)


def _rows(frame: pl.DataFrame, chosen: BoolArray) -> pl.DataFrame:
    import polars as pl

    return frame.filter(pl.Series(chosen))


def _nulls(project: ModelProject, training: pl.DataFrame, evaluation: pl.DataFrame) -> NullReport:
    return null_report(_null_rates(project, training), _null_rates(project, evaluation))


def _null_rates(project: ModelProject, frame: pl.DataFrame) -> dict[str, float]:
    """Share of missing values by column; all missing when there is no row."""
    import polars as pl

    if frame.is_empty():
        return dict.fromkeys(project.columns, 1.0)
    rates = frame.select(
        *(pl.col(c).eq("").mean() for c in project.service.categories),
        *(pl.col(c).is_nan().mean() for c in project.service.numbers),
    )
    return dict(zip(rates.columns, rates.row(0), strict=True))


def _measures(
    frame: pl.DataFrame,
    training: pl.DataFrame,
    evaluation: pl.DataFrame,
    *,
    window: Window,
    nulls: NullReport,
) -> dict[str, float | None]:
    labelled = _labelled(evaluation)
    return {
        "training_rows": len(training),
        "evaluation_rows": labelled,
        "missing_days": missing_days(window, frame["decision_time_us"].to_numpy()),
        "label_completeness": labelled / len(evaluation) if len(evaluation) else None,
        "labels_before_decision": _labels_before_decision(frame),
        "columns_turned_null": len(nulls.turned_null),
        "null_growth": nulls.growth,
    }


def _labelled(frame: pl.DataFrame) -> int:
    return len(frame) - frame["label"].null_count()


def _labels_before_decision(frame: pl.DataFrame) -> int:
    """Rows whose label was known before their decision: what a model is to predict was over."""
    import polars as pl

    known_before = pl.col("label_known_at_us") < pl.col("decision_time_us")
    return frame.filter(pl.col("label").is_not_null() & known_before).height


def _hold_reasons(results: list[GateResult], nulls: NullReport) -> list[str]:
    """The failed gates, with the columns that they are about."""
    hold_reasons = reasons(results)
    if nulls.turned_null:
        shown = ", ".join(nulls.turned_null[:5])
        hold_reasons.append(
            f"{len(nulls.turned_null)} columns without a value in the evaluation: {shown}"
        )
    elif nulls.worst and any(not r.passed and r.measure == "null_growth" for r in results):
        hold_reasons.append(f"the column that lost most values: {nulls.worst}")
    return hold_reasons


def _lacking_outcomes(training: pl.DataFrame, evaluation: pl.DataFrame) -> list[str]:
    """Without both outcomes there is nothing to learn, and no quality to measure."""
    parts = {"training": training, "the evaluation": evaluation}
    return [
        f"{name} needs decisions of both outcomes"
        for name, part in parts.items()
        if part["label"].drop_nulls().n_unique() < 2
    ]


def _infinite_columns(
    project: ModelProject, training: pl.DataFrame, evaluation: pl.DataFrame
) -> list[str]:
    """No estimator takes infinity, and no model should learn from it."""
    import polars as pl

    numbers = pl.col(list(project.service.numbers))
    infinite = pl.concat([training, evaluation]).select(numbers.is_infinite().sum())
    return (
        [
            f"the column {name} has {count} infinite values: let its formula give NaN"
            for name, count in infinite.row(0, named=True).items()
            if count
        ]
        if infinite.width
        else []
    )

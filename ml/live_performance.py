"""How good were the forecasts that were served? ScoredEvaluationSet by what really happened.

Each is compared, on the same decisions, with two forecasts that anybody could have made at the
beginning of the span: the share of positives until then, and the project's reference model trained
on what was known until then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct

from features.contracts.predictions import Outcome as Forecast
from features.definitions import Float64Array
from infra.clock import DAY, from_us, span_us
from ml.errors import NothingToReport
from ml.evaluation import metrics as quality
from ml.evaluation.metrics import Interval
from ml.ports import History
from ml.project import ModelProject
from ml.training.frames import to_pandas

if TYPE_CHECKING:
    import polars as pl


class Scores(Struct, frozen=True, kw_only=True):
    """Forecasts against what happened. Not known (null): too few rows, or all of one outcome."""

    rows: int
    share: float  # of decisions that came out positive
    log_loss: float
    roc_auc: float | None
    bias: float


class VersionReport(Struct, frozen=True, kw_only=True):
    """One model version: how it did, and what the plain forecasts did on its decisions."""

    version: str
    model: Scores
    base_rate: Scores
    reference: Scores


class Report(Struct, frozen=True, kw_only=True):
    """The forecasts of a span. A label is known or not as of `as_of`."""

    project: str
    start: str
    end: str
    as_of: str
    answered: int  # outcomes of the span, of any kind
    rejected: int
    forecasts: int
    inexact: int  # forecasts whose features may have missed something
    stale: int  # forecasts that ingest had not caught up with
    unlabelled: int  # nothing has come of them: cancelled, or still on their way
    total: VersionReport
    versions: tuple[VersionReport, ...]
    minus_reference: Interval  # log loss of the forecasts minus that of the reference


def report(
    project: ModelProject,
    forecasts: Iterable[Forecast],
    *,
    history: History,
    start_us: int,
    end_us: int,
    as_of_us: int,
) -> Report:
    """Join the forecasts with decision time in `[start_us, end_us)` with the labels.

    Raises:
        NothingToReport: no forecast in the span, or none with a label.
    """
    if end_us > as_of_us:
        raise NothingToReport(
            f"the offline store ends at {from_us(as_of_us)}, before {from_us(end_us)}",
            hint="choose an earlier --until, or let more events come",
        )
    answers = [f for f in forecasts if _concerns(f, project, start_us, end_us)]
    frame = _forecast_frame(answers)
    rows = _history_rows(project, history, start_us=start_us, end_us=end_us, as_of_us=as_of_us)
    joined = _joined(frame, rows, project=project, start_us=start_us)
    _require(frame, joined, project, start_us, end_us)
    versions = [
        _version(v, joined.filter(joined["version"] == v))
        for v in joined["version"].unique(maintain_order=True).to_list()
    ]
    losses, reference = (_losses(joined, column) for column in ("score", "reference"))
    days = (joined["decision_time_us"].to_numpy() - start_us) // DAY
    return Report(
        project=project.name,
        start=from_us(start_us).isoformat(),
        end=from_us(end_us).isoformat(),
        as_of=from_us(as_of_us).isoformat(),
        answered=len(answers),
        rejected=sum(f.outcome == "rejected" for f in answers),
        forecasts=frame.height,
        inexact=int((~frame["exact"]).sum()),
        stale=int((~frame["fresh"]).sum()),
        unlabelled=frame.height - joined.height,
        total=_version("all", joined),
        versions=tuple(versions),
        minus_reference=quality.day_block_interval(losses - reference, days, seed=project.seed),
    )


def _concerns(forecast: Forecast, project: ModelProject, start_us: int, end_us: int) -> bool:
    """A rejection may lack its time, and then belongs to no span."""
    at = forecast.decision_time_us
    return at is not None and start_us <= at < end_us and forecast.model in (project.name, None)


def _forecast_frame(answers: Sequence[Forecast]) -> pl.DataFrame:
    """One row for each entity and decision time: the first answer counts."""
    import polars as pl

    made = sorted((f for f in answers if f.outcome == "predicted"), key=lambda f: f.scored_at_us)
    return pl.DataFrame(
        {
            "entity_id": [f.entity_id for f in made],
            "decision_time_us": [f.decision_time_us for f in made],
            "score": [f.score for f in made],
            "version": [f.model_version for f in made],
            "exact": [bool(f.features_exact) for f in made],
            "fresh": [f.features_fresh is not False for f in made],
        },
        schema={
            "entity_id": pl.String,
            "decision_time_us": pl.Int64,
            "score": pl.Float64,
            "version": pl.String,
            "exact": pl.Boolean,
            "fresh": pl.Boolean,
        },
    ).unique(["entity_id", "decision_time_us"], keep="first", maintain_order=True)


def _history_rows(
    project: ModelProject, history: History, *, start_us: int, end_us: int, as_of_us: int
) -> pl.DataFrame:
    """Decisions up to the end of the span, with what was known of them as of now."""
    return history(
        project.service,
        project.label,
        start_us=start_us - project.history_days * DAY,
        end_us=end_us,
        known_before_us=as_of_us,
    ).frame


def _joined(
    frame: pl.DataFrame, rows: pl.DataFrame, *, project: ModelProject, start_us: int
) -> pl.DataFrame:
    """Labelled forecasts with the two plain forecasts beside them."""
    import polars as pl

    joined = frame.join(
        rows.filter(pl.col("label").is_not_null()), on=["entity_id", "decision_time_us"]
    ).sort("decision_time_us", "entity_id")
    learnt = rows.filter(
        pl.col("decision_time_us") < start_us - span_us(project.label.max_wait),
        pl.col("label_known_at_us") < start_us,
    )
    if joined.is_empty() or learnt["label"].n_unique() < 2:
        return joined.clear()
    share = float(learnt["label"].cast(pl.Float64).to_numpy().mean())
    return joined.with_columns(
        base_rate=pl.lit(share), reference=pl.Series(_reference_scores(project, learnt, joined))
    )


def _reference_scores(
    project: ModelProject, learnt: pl.DataFrame, asked: pl.DataFrame
) -> Float64Array:
    reference = project.reference
    wanted = reference.columns or project.columns
    columns = [c for c in project.columns if c in wanted]
    pipeline = reference.build(
        [c for c in project.service.categories if c in columns],
        [c for c in project.service.numbers if c in columns],
        seed=project.seed,
        **reference.options,
    )
    pipeline.fit(to_pandas(learnt, columns), learnt["label"].to_numpy())
    scores: Float64Array = pipeline.predict_proba(to_pandas(asked, columns))[:, 1]
    return scores


def _require(
    frame: pl.DataFrame, joined: pl.DataFrame, project: ModelProject, start_us: int, end_us: int
) -> None:
    span = f"{from_us(start_us)} to {from_us(end_us)}"
    if frame.is_empty():
        raise NothingToReport(
            f"no forecast of {project.name} for decisions from {span}",
            hint="does serving run? `eventide status`; replay some requests",
        )
    if joined.is_empty():
        raise NothingToReport(
            f"{frame.height} forecasts from {span}, but no outcome to judge them by, or no history "
            "before them to compare with",
            hint="labels come with later events: replay or ingest more, then ask again",
        )


def _version(version: str, joined: pl.DataFrame) -> VersionReport:
    return VersionReport(
        version=version,
        model=_scores(joined, "score"),
        base_rate=_scores(joined, "base_rate"),
        reference=_scores(joined, "reference"),
    )


def _scores(joined: pl.DataFrame, column: str) -> Scores:
    from sklearn.metrics import roc_auc_score

    labels, scores = joined["label"].to_numpy().astype(np.int64), joined[column].to_numpy()
    both = 0 < labels.sum() < len(labels)
    return Scores(
        rows=len(labels),
        share=float(labels.mean()),
        log_loss=float(quality.log_losses(labels, scores).mean()),
        roc_auc=float(roc_auc_score(labels, scores)) if both else None,
        bias=quality.bias(labels, scores),
    )


def _losses(joined: pl.DataFrame, column: str) -> Float64Array:
    labels = joined["label"].to_numpy().astype(np.int64)
    return quality.log_losses(labels, joined[column].to_numpy())

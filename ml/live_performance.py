"""How good the served predictions were, now that their labels are known.

They are compared, on the same decisions, with two baselines that were available at the beginning
of the span: the share of positives until then, and the project's reference model trained on what
was known until then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct, field

from features.contracts.predictions import Outcome
from features.definitions import FeatureService, Float64Array, Label
from features.retrieval.historical import TrainingRows
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
    """Predictions against labels. `roc_auc` is null when all labels are equal."""

    rows: int
    share: float  # of positive labels
    log_loss: float
    roc_auc: float | None
    bias: float


class VersionReport(Struct, frozen=True, kw_only=True):
    """One model version, and the two baselines on the same decisions."""

    version: str
    model: Scores
    base_rate: Scores
    reference: Scores


class LiveReport(Struct, frozen=True, kw_only=True):
    """The predictions of a span, with the labels that were known before `as_of`."""

    project: str
    start: str
    end: str
    as_of: str
    answered: int  # predictions and rejections
    rejected: int
    predictions: int = field(name="forecasts")  # its name in JSON
    inexact: int  # predictions whose features may lack events
    stale: int  # predictions made before ingest had caught up
    unlabelled: int  # predictions without a label: it is not known yet, or will never be
    total: VersionReport
    versions: tuple[VersionReport, ...]
    minus_reference: Interval  # log loss of the predictions minus that of the reference


def live_report(
    project: ModelProject,
    outcomes: Iterable[Outcome],
    *,
    history: History,
    start_us: int,
    end_us: int,
    as_of_us: int,
) -> LiveReport:
    """Join the predictions with decision time in `[start_us, end_us)` with the labels.

    Raises:
        NothingToReport: no prediction in the span, or none with a label.
    """
    if end_us > as_of_us:
        raise NothingToReport(
            f"the offline store ends at {from_us(as_of_us)}, before {from_us(end_us)}",
            hint="choose an earlier --until, or let more events come",
        )
    in_span = [o for o in outcomes if _is_in_span(o, project, start_us, end_us)]
    predictions = _prediction_frame(in_span)
    rows = _history_rows(project, history, start_us=start_us, end_us=end_us, as_of_us=as_of_us)
    joined = _joined(predictions, rows, project=project, start_us=start_us)
    _require(predictions, joined, project, start_us, end_us)
    return LiveReport(
        project=project.name,
        start=from_us(start_us).isoformat(),
        end=from_us(end_us).isoformat(),
        as_of=from_us(as_of_us).isoformat(),
        answered=len(in_span),
        rejected=sum(o.outcome == "rejected" for o in in_span),
        predictions=predictions.height,
        inexact=int((~predictions["exact"]).sum()),
        stale=int((~predictions["fresh"]).sum()),
        unlabelled=predictions.height - joined.height,
        total=_version("all", joined),
        versions=_versions(joined),
        minus_reference=_minus_reference(joined, start_us=start_us, seed=project.seed),
    )


def for_reference(project: ModelProject, history: History) -> History:
    """The history, of the columns that the reference model reads.

    A report needs labels, and what the reference is trained on: a year of all other features would
    cost nearly all of its time.
    """

    def rows(service: FeatureService, label: Label, **span: int) -> TrainingRows:
        return history(_narrowed(service, project.columns_of(project.reference)), label, **span)

    return rows


def _narrowed(service: FeatureService, columns: Collection[str]) -> FeatureService:
    """The service without the request columns and views that none of the columns come from."""
    return replace(
        service,
        request_columns=tuple(c for c in service.request_columns if c.name in columns),
        views=tuple(v for v in service.views if set(v.features) & set(columns)),
    )


def _is_in_span(outcome: Outcome, project: ModelProject, start_us: int, end_us: int) -> bool:
    """A rejection may lack its time, and then belongs to no span."""
    at = outcome.decision_time_us
    return at is not None and start_us <= at < end_us and outcome.model in (project.name, None)


def _prediction_frame(outcomes: Sequence[Outcome]) -> pl.DataFrame:
    """One row for each entity and decision time: the first prediction counts."""
    import polars as pl

    predicted = sorted(
        (o for o in outcomes if o.outcome == "predicted"), key=lambda o: o.scored_at_us
    )
    return pl.DataFrame(
        {
            "entity_id": [o.entity_id for o in predicted],
            "decision_time_us": [o.decision_time_us for o in predicted],
            "score": [o.score for o in predicted],
            "version": [o.model_version for o in predicted],
            "exact": [bool(o.features_exact) for o in predicted],
            "fresh": [o.features_fresh is not False for o in predicted],
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
    """Decisions up to the end of the span, with the labels that were known before `as_of_us`."""
    return history(
        project.service,
        project.label,
        start_us=start_us - project.history_days * DAY,
        end_us=end_us,
        known_before_us=as_of_us,
    ).frame


def _joined(
    predictions: pl.DataFrame, rows: pl.DataFrame, *, project: ModelProject, start_us: int
) -> pl.DataFrame:
    """Labelled predictions with the scores of the two baselines beside them."""
    import polars as pl

    joined = predictions.join(
        rows.filter(pl.col("label").is_not_null()), on=["entity_id", "decision_time_us"]
    ).sort("decision_time_us", "entity_id")
    known = rows.filter(
        pl.col("decision_time_us") < start_us - span_us(project.label.max_wait),
        pl.col("label_known_at_us") < start_us,
    )
    if joined.is_empty() or known["label"].n_unique() < 2:
        return joined.clear()
    share = float(known["label"].cast(pl.Float64).to_numpy().mean())
    return joined.with_columns(
        base_rate=pl.lit(share), reference=pl.Series(_reference_scores(project, known, joined))
    )


def _reference_scores(
    project: ModelProject, known: pl.DataFrame, scored: pl.DataFrame
) -> Float64Array:
    reference = project.reference
    columns = project.columns_of(reference)
    pipeline = reference.build(
        [c for c in project.service.categories if c in columns],
        [c for c in project.service.numbers if c in columns],
        seed=project.seed,
        **reference.options,
    )
    pipeline.fit(to_pandas(known, columns), known["label"].to_numpy())
    scores: Float64Array = pipeline.predict_proba(to_pandas(scored, columns))[:, 1]
    return scores


def _require(
    predictions: pl.DataFrame,
    joined: pl.DataFrame,
    project: ModelProject,
    start_us: int,
    end_us: int,
) -> None:
    span = f"{from_us(start_us)} to {from_us(end_us)}"
    if predictions.is_empty():
        raise NothingToReport(
            f"no prediction of {project.name} for decisions from {span}",
            hint="does serving run? `eventide status`; replay some requests",
        )
    if joined.is_empty():
        raise NothingToReport(
            f"{predictions.height} predictions from {span}, but none has a label yet, or the"
            " baselines have no history before them",
            hint="labels come with later events: replay or ingest more, then report again",
        )


def _versions(joined: pl.DataFrame) -> tuple[VersionReport, ...]:
    names = joined["version"].unique(maintain_order=True).to_list()
    return tuple(_version(name, joined.filter(joined["version"] == name)) for name in names)


def _minus_reference(joined: pl.DataFrame, *, start_us: int, seed: int) -> Interval:
    """Log loss of the predictions minus that of the reference model, day by day."""
    losses, reference = (_losses(joined, column) for column in ("score", "reference"))
    days = (joined["decision_time_us"].to_numpy() - start_us) // DAY
    return quality.day_block_interval(losses - reference, days, seed=seed)


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

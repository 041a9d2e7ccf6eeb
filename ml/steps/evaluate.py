"""Evaluates every learner, the champion and a constant on the same later decisions."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from features.definitions import Float64Array, Int64Array
from infra.clock import HOUR
from ml.bundle.scoring import Bundle
from ml.compatibility import unfit
from ml.errors import BundleRefused
from ml.evaluation import metrics as quality
from ml.evaluation.split import day_blocks
from ml.ports import DayRuns, Experiments, Plotter, RegisteredVersion, Registry
from ml.project import ModelProject
from ml.registry_tags import (
    CHAMPION,
    CHAMPION_TAG,
    DAY_TAG,
    PATH_TAG,
    PROJECT_TAG,
    SHA256_TAG,
    SNAPSHOT_SHA256_TAG,
)
from ml.results import Evaluation, Fit, Quality, Snapshot, Validation
from ml.steps.artifacts import one_at_a_time, write_json
from ml.steps.run_log import EVALUATION, PLOTS, RunLog, data_sets, day_run, learner_run
from ml.steps.train import SCORES, bundle_scores

if TYPE_CHECKING:
    import polars as pl

BASE_RATE = "base_rate"
REFERENCE = "reference"


@dataclass(frozen=True, kw_only=True)
class ChampionModel:
    """The champion, able to score; but not rows of this service if `incomparable` says why."""

    version: RegisteredVersion
    bundle: Bundle
    incomparable: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ScoredEvaluationSet:
    """The labelled evaluation rows, and the scores of each learner."""

    rows: pl.DataFrame
    labels: Int64Array
    days: Int64Array
    scores: Mapping[str, Float64Array]


def evaluate(
    project: ModelProject,
    snapshot: Snapshot,
    validation: Validation,
    fits: Sequence[Fit],
    *,
    experiments: Experiments,
    registry: Registry,
    plotter: Plotter,
) -> Evaluation:
    """Evaluate the fits, and log the evaluation in the day's runs.

    An evaluation that is already logged is read back, even if the champion has changed since. A
    champion that was not registered by a training run holds the run: the evaluation says so, and is
    made again by the next run of the day.

    Raises:
        BundleRefused: the champion in the registry is not what was registered.
    """
    with one_at_a_time(Path(snapshot.folder)):
        return _evaluate_once(
            project,
            snapshot,
            validation,
            fits,
            experiments=experiments,
            registry=registry,
            plotter=plotter,
        )


def _evaluate_once(
    project: ModelProject,
    snapshot: Snapshot,
    validation: Validation,
    fits: Sequence[Fit],
    *,
    experiments: Experiments,
    registry: Registry,
    plotter: Plotter,
) -> Evaluation:
    finished_run = experiments.finished(project.name, snapshot.key)
    if finished_run:
        return msgspec.json.decode(experiments.read(finished_run, EVALUATION), type=Evaluation)
    version = registry.champion(project.name)
    problems = () if version is None else unusable(version)
    champion = None if problems else champion_of(registry, project)
    scored = _scored(snapshot, fits, champion)
    runs = experiments.begin(
        project.name,
        snapshot.key,
        title=snapshot.window.day,
        tags=_run_tags(project, snapshot, champion),
        learners=[f.learner for f in fits],
    )
    evaluation = msgspec.structs.replace(
        compare(project, snapshot, fits, scored, champion=champion, runs=runs),
        hold_reasons=tuple(problems),
    )
    with tempfile.TemporaryDirectory() as temporary:
        run_log = RunLog(snapshot, validation, evaluation, Path(temporary))
        plotter.draw(scored.labels, scored.scores, folder=run_log.folder / PLOTS)
        _log(run_log, fits, runs, experiments)
    experiments.end(runs, failed=bool(problems))
    return evaluation


def unusable(champion: RegisteredVersion) -> tuple[str, ...]:
    """Why candidates cannot be compared with a version that has the alias `champion`."""
    missing = [tag for tag in (PATH_TAG, SHA256_TAG) if not champion.tags.get(tag)]
    problem = (
        f"version {champion.version} of {champion.name} has the alias {CHAMPION!r} and no tag"
        f" {' and '.join(missing)}: it was not registered by a training run; point the alias at a"
        " version that was, or remove it"
    )
    return (problem,) if missing else ()


def _log(run_log: RunLog, fits: Sequence[Fit], runs: DayRuns, experiments: Experiments) -> None:
    """Log the evaluation, with the plots in the folder of `run_log`, in the day's runs."""
    write_json(run_log.folder / EVALUATION, run_log.evaluation)
    data = data_sets(run_log.snapshot)
    experiments.log(runs.day, day_run(run_log), data)
    for fit in fits:
        experiments.log(runs.learners[fit.learner], learner_run(run_log, fit), data)


def champion_of(registry: Registry, project: ModelProject) -> ChampionModel | None:
    """The champion's bundle, downloaded and compared with its registered sha256.

    `incomparable` tells whether rows of the project's service can be scored by it.

    Raises:
        BundleRefused: it is not what was registered, or was not registered by a training run.
    """
    version = registry.champion(project.name)
    if version is None:
        return None
    if problems := unusable(version):
        raise BundleRefused(problems[0])
    with tempfile.TemporaryDirectory() as temporary:
        registry.download(version, Path(temporary))
        bundle = Bundle.load(Path(temporary), version.tags[SHA256_TAG])
    reasons = tuple(unfit(bundle, project.service))
    return ChampionModel(version=version, bundle=bundle, incomparable=reasons)


def _run_tags(
    project: ModelProject, snapshot: Snapshot, champion: ChampionModel | None
) -> dict[str, str]:
    return {
        PROJECT_TAG: project.name,
        DAY_TAG: snapshot.window.day,
        SNAPSHOT_SHA256_TAG: snapshot.sha256,
        CHAMPION_TAG: champion.version.version if champion else "none",
    }


def compare(
    project: ModelProject,
    snapshot: Snapshot,
    fits: Sequence[Fit],
    scored: ScoredEvaluationSet,
    *,
    champion: ChampionModel | None,
    runs: DayRuns,
) -> Evaluation:
    """Every number of the evaluation, from scores and labels alone."""
    losses = {name: quality.log_losses(scored.labels, s) for name, s in scored.scores.items()}
    best = min((c.name for c in project.candidates), key=lambda name: losses[name].mean())
    base_rate = _base_rate(snapshot)
    constant = quality.log_losses(scored.labels, np.full(len(scored.labels), base_rate))
    baselines = {BASE_RATE: constant, REFERENCE: losses[project.reference.name]}
    if CHAMPION in losses:
        baselines[CHAMPION] = losses[CHAMPION]
    evaluation = Evaluation(
        key=snapshot.key,
        day=snapshot.window.day,
        run_id=runs.day,
        runs=dict(runs.learners),
        fits={f.learner: f for f in fits},
        best=best,
        champion=champion.version.version if champion else None,
        incomparable=champion.incomparable if champion else (),
        base_rate=base_rate,
        base_rate_log_loss=float(constant.mean()),
        qualities={n: _quality(n, scored.labels, s) for n, s in scored.scores.items()},
        differences={
            name: quality.day_block_interval(losses[best] - loss, scored.days, seed=project.seed)
            for name, loss in baselines.items()
        },
        slices=_slices(project, scored.rows, losses[best], losses.get(CHAMPION)),
        measures={},
    )
    return msgspec.structs.replace(evaluation, measures=_measures(evaluation, snapshot, champion))


def _slices(
    project: ModelProject,
    rows: pl.DataFrame,
    losses: Float64Array,
    champion_losses: Float64Array | None,
) -> tuple[quality.SliceMetrics, ...]:
    categories = {c: rows[c].to_list() for c in project.slices.columns}
    min_rows = project.slices.min_rows
    return tuple(quality.slices(categories, losses, champion_losses, min_rows=min_rows))


def _scored(
    snapshot: Snapshot, fits: Sequence[Fit], champion: ChampionModel | None
) -> ScoredEvaluationSet:
    import polars as pl

    rows = pl.read_parquet(snapshot.file("evaluation.parquet"))
    labelled = rows["label"].is_not_null()
    rows = rows.filter(labelled)
    scores = {
        f.learner: pl.read_parquet(f.file(SCORES)).filter(labelled)["score"].to_numpy()
        for f in fits
    }
    if champion is not None and not champion.incomparable:
        scores[CHAMPION] = bundle_scores(champion.bundle, rows)
    return ScoredEvaluationSet(
        rows=rows,
        labels=rows["label"].cast(pl.Int64).to_numpy(),
        days=day_blocks(snapshot.window, rows["decision_time_us"].to_numpy()),
        scores=scores,
    )


def _base_rate(snapshot: Snapshot) -> float:
    import polars as pl

    labels = pl.read_parquet(snapshot.file("training.parquet"), columns=["label"])["label"]
    return float(labels.cast(pl.Float64).to_numpy().mean())


def _quality(name: str, labels: Int64Array, scores: Float64Array) -> Quality:
    from sklearn.metrics import average_precision_score, roc_auc_score

    return Quality(
        learner=name,
        log_loss=float(quality.log_losses(labels, scores).mean()),
        roc_auc=float(roc_auc_score(labels, scores)),
        pr_auc=float(average_precision_score(labels, scores)),
        brier=quality.brier(labels, scores),
        ece=quality.calibration_error(labels, scores),
        bias=quality.bias(labels, scores),
    )


def _measures(
    evaluation: Evaluation, snapshot: Snapshot, champion: ChampionModel | None
) -> dict[str, float | None]:
    """The numbers that gates can bound, by name."""
    best, differences = evaluation.qualities[evaluation.best], evaluation.differences
    measures: dict[str, float | None] = {
        **snapshot.measures,
        "log_loss": best.log_loss,
        "roc_auc": best.roc_auc,
        "pr_auc": best.pr_auc,
        "ece": best.ece,
        "absolute_bias": abs(best.bias),
    }
    for name, difference in differences.items():
        measures[f"log_loss_minus_{name}_upper"] = difference.upper
    measures["champion_incomparable"] = float(champion is not None and bool(champion.incomparable))
    if champion is None or champion.incomparable:
        return measures
    overlap_us = champion.bundle.info.trained_until_us - snapshot.window.evaluation_start_us
    changes = [s.change for s in evaluation.slices if s.change is not None]
    measures["champion_absolute_bias"] = abs(evaluation.qualities[CHAMPION].bias)
    measures["worst_slice_change"] = max(changes, default=None)
    measures["champion_overlap_hours"] = max(overlap_us, 0) / HOUR
    return measures

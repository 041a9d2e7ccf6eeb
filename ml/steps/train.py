"""Fits one learner on the training rows, and scores the evaluation rows with it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ml.bundle.format import BundleInfo, write_bundle
from ml.bundle.scoring import Bundle
from ml.compatibility import with_meanings
from ml.errors import UnsupportedPipeline
from ml.project import Candidate, ModelProject
from ml.results import Fit, Snapshot
from ml.steps.artifacts import once
from ml.training.frames import read_pandas, to_pandas

if TYPE_CHECKING:
    import polars as pl

PIPELINE = "model.skops"
BUNDLE = "bundle"
SCORES = "scores.parquet"
MAX_DIFFERENCE = 1e-9


def train(project: ModelProject, snapshot: Snapshot, learner: str) -> Fit:
    """Train the learner and write it twice: as a pipeline and as plain data for serving.

    Raises:
        UnsupportedPipeline: it cannot be written as plain data, or that scores differently.
    """
    candidate = project.learner(learner)
    folder = snapshot.file(f"fits/{candidate.name}")
    return once(folder, Fit, lambda fresh: _fit(project, snapshot, candidate, folder, fresh))


def _fit(
    project: ModelProject, snapshot: Snapshot, candidate: Candidate, folder: Path, fresh: Path
) -> Fit:
    import polars as pl
    import skops.io

    columns = project.columns_of(candidate, without=snapshot.unusable)
    categories = [c for c in project.service.categories if c in columns]
    numbers = [c for c in project.service.numbers if c in columns]
    started = time.monotonic()
    pipeline = candidate.build(categories, numbers, seed=project.seed, **candidate.options)
    fit_pipeline(pipeline, snapshot.file("training.parquet"), columns)
    seconds = time.monotonic() - started
    skops.io.dump(pipeline, fresh / PIPELINE)
    sha256 = _write_bundle(project, snapshot, candidate, pipeline, fresh / BUNDLE)
    evaluation = pl.read_parquet(snapshot.file("evaluation.parquet"))
    scores = pipeline.predict_proba(to_pandas(evaluation, columns))[:, 1]
    parity = _parity(Bundle.load(fresh / BUNDLE, sha256), evaluation, scores, candidate)
    evaluation.select("entity_id").with_columns(score=pl.Series(scores)).write_parquet(
        fresh / SCORES
    )
    return Fit(
        learner=candidate.name,
        folder=str(folder),
        bundle_sha256=sha256,
        fit_seconds=round(seconds, 2),
        parity=parity,
        columns=len(columns),
    )


def fit_pipeline(pipeline: Any, file: Path, columns: Sequence[str]) -> None:
    """Fit it as `pipeline.fit` does, with fewer copies of the rows in memory.

    The rows are many and their encoding is a second copy: it replaces the rows before the
    estimator, which makes another one, is fitted.
    """
    import polars as pl

    labels = pl.read_parquet(file, columns=["label"])["label"].to_numpy()
    frame = read_pandas(file, columns)
    encoded = pipeline[:-1].fit_transform(frame, labels)
    del frame
    pipeline[-1].fit(encoded, labels)


def bundle_scores(bundle: Bundle, rows: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The scores of a bundle for rows of a snapshot.

    Raises:
        ColumnNotFoundError: the rows lack a column that the bundle was trained on.
    """
    categories = {name: rows[name].to_list() for name in bundle.categories}
    return bundle.score(categories, rows.select(bundle.numbers).to_numpy())


def _write_bundle(
    project: ModelProject, snapshot: Snapshot, candidate: Candidate, pipeline: Any, folder: Path
) -> str:
    from ml.training.bundle_export import export_pipeline

    info = BundleInfo(
        model=project.name,
        candidate=candidate.name,
        service=project.service.name,
        day=snapshot.window.day,
        trained_until_us=snapshot.window.training_end_us,
        snapshot_sha256=snapshot.sha256,
        threshold=project.threshold,
    )
    model, trees = export_pipeline(
        pipeline,
        info=info,
        categories=project.service.categories,
        numbers=project.service.numbers,
    )
    return write_bundle(folder, with_meanings(model, project.service), trees=trees)


def _parity(bundle: Bundle, rows: pl.DataFrame, scores: Any, candidate: Candidate) -> float:
    """The greatest difference between the scores of the pipeline and of the bundle."""
    difference = float(np.abs(bundle_scores(bundle, rows) - scores).max(initial=0.0))
    if not difference <= MAX_DIFFERENCE:
        raise UnsupportedPipeline(
            f"candidate {candidate.name}: its bundle scores up to {difference:.2g} differently",
            hint="write the encoder as one transformer a column, see docs/explanation/models.md",
        )
    return difference

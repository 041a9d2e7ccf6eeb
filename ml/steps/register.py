"""Registers an accepted candidate as a version, and verifies that serving can use it."""

from __future__ import annotations

import tempfile
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np

from ml.bundle.scoring import Bundle
from ml.errors import BundleRefused, MlError
from ml.ports import RegisteredVersion, Registry
from ml.project import ModelProject
from ml.registry_tags import (
    CANDIDATE_TAG,
    CHALLENGER,
    CHAMPION,
    DAY_TAG,
    JUDGED_AGAINST_TAG,
    KEY_TAG,
    LOG_LOSS_TAG,
    MINUS_CHAMPION_TAG,
    PATH_TAG,
    ROC_AUC_TAG,
    SHA256_TAG,
    SNAPSHOT_SHA256_TAG,
    TRAINED_UNTIL_TAG,
    VERIFIED_TAG,
)
from ml.results import Evaluation, Fit, Registration, Snapshot, Verdict
from ml.steps.artifacts import one_at_a_time
from ml.steps.train import MAX_DIFFERENCE, PIPELINE, bundle_scores
from ml.training.frames import to_pandas

BUNDLE_PATH = "bundle"
GOLDEN_ROWS = 2_000
EXAMPLE_ROWS = 5

TRUSTED_TYPES = (
    "functools.partial",
    "numpy.dtype",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.utils.validation.check_array",
)
"""What our pipelines hold beside the types that skops trusts by itself. The list is code and not a
file beside the model: a model that names its own trusted types protects nobody."""


def register(
    project: ModelProject,
    snapshot: Snapshot,
    evaluation: Evaluation,
    verdict: Verdict,
    *,
    registry: Registry,
) -> Registration:
    """Register the accepted candidate as a version with the alias `challenger`, and verify it.

    The verification loads the version as serving does: the bundle is downloaded over the network,
    compared with its sha256, and must score as the pipeline does. Only a verified version can be
    promoted.
    A version that was registered for the same data is reused.

    Raises:
        MlError: the verdict is to hold.
        BundleRefused: what came back is not what was trained.
    """
    if not verdict.accepted:
        raise MlError(f"{verdict.candidate} was not accepted: {'; '.join(verdict.reasons)}")
    with one_at_a_time(Path(snapshot.folder)):
        return _register_once(project, snapshot, evaluation, verdict, registry=registry)


def _register_once(
    project: ModelProject,
    snapshot: Snapshot,
    evaluation: Evaluation,
    verdict: Verdict,
    *,
    registry: Registry,
) -> Registration:
    fit = evaluation.fits[verdict.candidate]
    version = registry.with_key(project.name, snapshot.key) or registry.register(
        project.name,
        run_id=evaluation.runs[fit.learner],
        pipeline=load_pipeline(fit.file(PIPELINE)),
        example=_golden(project, snapshot, fit)[1].head(EXAMPLE_ROWS),
        tags=_tags(snapshot, evaluation, verdict, fit),
    )
    if VERIFIED_TAG not in version.tags:
        rows = verify_deployment(project, snapshot, fit, version, registry=registry)
        # The tag last: to a retry it shows that all of this is done.
        registry.point(project.name, CHALLENGER, version.version)
        registry.tag(version, {VERIFIED_TAG: str(rows)})
    return Registration(
        name=project.name,
        version=version.version,
        run_id=version.run_id,
        bundle_sha256=fit.bundle_sha256,
        verified_rows=int(registry.get(project.name, version.version).tags[VERIFIED_TAG]),
    )


def verify_deployment(
    project: ModelProject,
    snapshot: Snapshot,
    fit: Fit,
    version: RegisteredVersion,
    *,
    registry: Registry,
) -> int:
    """Score the golden rows by the downloaded bundle and by the pipeline; returns how many.

    Raises:
        BundleRefused: the bundle is not the registered one, or scores differently.
    """
    with tempfile.TemporaryDirectory() as temporary:
        registry.download(version, Path(temporary))
        bundle = Bundle.load(Path(temporary), version.tags[SHA256_TAG])
    rows, frame = _golden(project, snapshot, fit)
    expected = load_pipeline(fit.file(PIPELINE)).predict_proba(frame)[:, 1]
    difference = float(np.abs(bundle_scores(bundle, rows) - expected).max(initial=0.0))
    if not difference <= MAX_DIFFERENCE or not len(rows):
        raise BundleRefused(
            f"version {version.version} scores {len(rows)} golden rows up to {difference:.2g} "
            "differently after the round trip through the registry"
        )
    return len(rows)


def load_pipeline(file: Path) -> Any:
    """A fitted pipeline, holding only types that we trust.

    Raises:
        UntrustedTypesFoundException: it holds another type.
    """
    import skops.io

    return skops.io.load(file, trusted=list(TRUSTED_TYPES))


def requirements() -> list[str]:
    """What a reader of the registered pipeline has to install, pinned to what made it."""
    names = ("scikit-learn", "skops", "numpy", "pandas")
    return [f"{name}=={installed(name)}" for name in names]


def _golden(project: ModelProject, snapshot: Snapshot, fit: Fit) -> tuple[Any, Any]:
    """The last evaluation rows, as the bundle is given them and as the pipeline is."""
    import polars as pl

    rows = pl.read_parquet(snapshot.file("evaluation.parquet")).tail(GOLDEN_ROWS)
    columns = project.columns_of(project.learner(fit.learner), without=snapshot.unusable)
    return rows, to_pandas(rows, columns)


def _tags(snapshot: Snapshot, evaluation: Evaluation, verdict: Verdict, fit: Fit) -> dict[str, str]:
    best = evaluation.qualities[verdict.candidate]
    tags = {
        KEY_TAG: snapshot.key,
        PATH_TAG: BUNDLE_PATH,
        SHA256_TAG: fit.bundle_sha256,
        DAY_TAG: snapshot.window.day,
        CANDIDATE_TAG: verdict.candidate,
        SNAPSHOT_SHA256_TAG: snapshot.sha256,
        TRAINED_UNTIL_TAG: str(snapshot.window.training_end_us),
        JUDGED_AGAINST_TAG: (
            str(verdict.champion)
            if evaluation.has_comparable_champion
            else "base rate and reference"
        ),
        LOG_LOSS_TAG: f"{best.log_loss:.6f}",
        ROC_AUC_TAG: f"{best.roc_auc:.6f}",
    }
    if CHAMPION in evaluation.differences:
        d = evaluation.differences[CHAMPION]
        tags[MINUS_CHAMPION_TAG] = f"{d.value:+.6f} [{d.lower:+.6f}, {d.upper:+.6f}]"
    return tags

"""Which candidate is best, how certain that is, and that a registered version scores as trained."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from infra.clock import DAY
from ml.bundle.format import write_bundle
from ml.errors import BundleRefused
from ml.evaluation import metrics
from ml.ports import DataSet, DayRuns, RegisteredVersion, RunContents
from ml.registry_tags import SHA256_TAG
from ml.results import Evaluation, Fit, Snapshot, Validation
from ml.steps.evaluate import evaluate
from ml.steps.extract import extract
from ml.steps.register import verify_deployment
from ml.steps.train import BUNDLE, SCORES, train
from ml.steps.validate import DOCS
from tests.support.data.bundles import a_model_file
from tests.support.data.flight_history import SyntheticHistory
from tests.support.data.small_project import DAY as RUN_DAY
from tests.support.data.small_project import ROWS_A_DAY, small_project

PROJECT = small_project()


class Runs:
    """The runs of experiments, in memory."""

    def finished(self, project: str, key: str) -> str | None:
        return None

    def read(self, run_id: str, name: str) -> bytes:
        raise KeyError(run_id)

    def begin(
        self,
        project: str,
        key: str,
        *,
        title: str,
        tags: Mapping[str, str],
        learners: Sequence[str],
    ) -> DayRuns:
        return DayRuns(day="day", learners={name: name for name in learners})

    def log(self, run_id: str, contents: RunContents, data: Sequence[DataSet] = ()) -> None:
        """Nothing reads it."""

    def end(self, runs: DayRuns, *, failed: bool = False) -> None:
        """Nothing waits for it."""


class OneVersion:
    """A registry without a champion, whose only version has the bundle in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def champion(self, name: str) -> RegisteredVersion | None:
        return None

    def download(self, version: RegisteredVersion, folder: Path) -> None:
        shutil.copytree(self._folder, folder, dirs_exist_ok=True)


class NoPlots:
    """Draws nothing."""

    def draw(self, labels: Any, scores: Any, *, folder: Path) -> None:
        folder.mkdir(parents=True)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    history = SyntheticHistory(rows_a_day=ROWS_A_DAY)
    return extract(PROJECT, RUN_DAY, history=history, work=tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def fits(snapshot: Snapshot) -> list[Fit]:
    return [train(PROJECT, snapshot, c.name) for c in PROJECT.learners]


@pytest.fixture(scope="module")
def evaluation(snapshot: Snapshot, fits: list[Fit]) -> Evaluation:
    page = snapshot.file("validation") / DOCS / "validations" / "page.html"
    page.parent.mkdir(parents=True)
    page.touch()
    return evaluate(
        PROJECT,
        snapshot,
        Validation(expectations=0, findings=()),
        fits,
        experiments=Runs(),
        registry=OneVersion(Path()),  # type: ignore[arg-type]
        plotter=NoPlots(),
    )


def losses(snapshot: Snapshot, fit: Fit) -> Any:
    labels = rows(snapshot)["label"].to_numpy()
    scores = pl.read_parquet(fit.file(SCORES))["score"].to_numpy()
    return metrics.log_losses(labels.astype(np.int64), scores)


def rows(snapshot: Snapshot) -> pl.DataFrame:
    evaluated = pl.read_parquet(snapshot.file("evaluation.parquet"))
    assert evaluated["label"].null_count() == 0
    return evaluated


def test_the_candidate_with_the_least_loss_is_the_best(
    snapshot: Snapshot, fits: list[Fit], evaluation: Evaluation
) -> None:
    candidates = {c.name for c in PROJECT.candidates}
    means = {f.learner: losses(snapshot, f).mean() for f in fits if f.learner in candidates}
    assert len(set(means.values())) == len(means) > 1
    assert means[evaluation.best] == min(means.values())


def test_its_advantage_is_judged_over_whole_days(
    snapshot: Snapshot, fits: list[Fit], evaluation: Evaluation
) -> None:
    by_name = {f.learner: losses(snapshot, f) for f in fits}
    difference = by_name[evaluation.best] - by_name[PROJECT.reference.name]
    start_us = snapshot.window.evaluation_start_us
    days = (rows(snapshot)["decision_time_us"].to_numpy() - start_us) // DAY
    assert len(np.unique(days)) == 7
    expected = metrics.day_block_interval(difference, days, seed=PROJECT.seed)
    assert evaluation.differences["reference"] == expected


def test_a_version_is_verified_by_its_scores_after_the_way_through_the_registry(
    snapshot: Snapshot, fits: list[Fit], tmp_path: Path
) -> None:
    fit = fits[0]
    assert verified(snapshot, fit, Path(fit.folder) / BUNDLE, fit.bundle_sha256) > 0
    other = write_bundle(tmp_path, a_model_file(PROJECT.service))
    with pytest.raises(BundleRefused, match="differently after the round trip"):
        verified(snapshot, fit, tmp_path, other)


def verified(snapshot: Snapshot, fit: Fit, bundle: Path, sha256: str) -> int:
    tags = {SHA256_TAG: sha256}
    version = RegisteredVersion(name=PROJECT.name, version="1", run_id="r", tags=tags)
    registry: Any = OneVersion(bundle)
    return verify_deployment(PROJECT, snapshot, fit, version, registry=registry)

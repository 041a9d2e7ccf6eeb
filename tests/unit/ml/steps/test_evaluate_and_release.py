"""From fits to a champion, without a server: what is compared, verified, held and promoted."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from infra.clock import DAY as DAY_US
from infra.clock import HOUR, to_us
from ml.bundle.format import MODEL
from ml.errors import BundleRefused
from ml.evaluation.metrics import day_block_interval, log_losses
from ml.ports import RegisteredVersion
from ml.project import Candidate, ModelProject
from ml.registry_tags import CHAMPION
from ml.results import Evaluation, Fit, Snapshot, Validation
from ml.steps.evaluate import champion_of, evaluate
from ml.steps.extract import extract
from ml.steps.gate import apply_gates
from ml.steps.promote import LIFECYCLE, promote
from ml.steps.register import register, verify_deployment
from ml.steps.summary import summarize
from ml.steps.table import STEP_BY_NAME, hold_reasons
from ml.steps.train import train
from ml.training.candidates import NEWTON, logistic_regression
from tests.support.data.flight_history import SyntheticHistory
from tests.support.data.small_project import DAY, ROWS_A_DAY, small_project
from tests.support.model_registry import MemoryExperiments, MemoryRegistry, NoPlots

GOOD = Candidate(name="good", build=logistic_regression, options=NEWTON)
BAD = Candidate(name="bad", build=logistic_regression, options={**NEWTON, "C": 1e-6})
PROJECT = small_project(candidates=(BAD, GOOD))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Snapshot, list[Fit]]:
    work = tmp_path_factory.mktemp("work")
    history = SyntheticHistory(rows_a_day=ROWS_A_DAY)
    snapshot = extract(PROJECT, DAY, history=history, work=work)
    page = snapshot.file("validation/data_docs/validations/page.html")
    page.parent.mkdir(parents=True)
    page.write_text("<html></html>")
    return snapshot, [train(PROJECT, snapshot, learner.name) for learner in PROJECT.learners]


@dataclass
class Bench:
    """Fits of one day, and a registry of their own."""

    snapshot: Snapshot
    fits: list[Fit]
    work: Path
    project: ModelProject = PROJECT
    experiments: MemoryExperiments = field(default_factory=MemoryExperiments)

    def __post_init__(self) -> None:
        self.registry = MemoryRegistry(self.experiments)

    def evaluate(self) -> Evaluation:
        return evaluate(
            self.project,
            self.snapshot,
            Validation(expectations=0, findings=()),
            self.fits,
            experiments=self.experiments,
            registry=self.registry,
            plotter=NoPlots(),
        )

    def registered(self) -> Any:
        evaluation = self.evaluate()
        verdict = apply_gates(self.project, self.snapshot, evaluation)
        return verdict, register(
            self.project, self.snapshot, evaluation, verdict, registry=self.registry
        )

    def promote(self) -> Any:
        verdict, registration = self.registered()
        return promote(
            self.project, registration, verdict, registry=self.registry, work=self.work, now_us=1
        )


@pytest.fixture
def bench(fitted: tuple[Snapshot, list[Fit]], tmp_path: Path) -> Bench:
    return Bench(*fitted, tmp_path)


def test_the_candidate_with_the_lowest_loss_is_the_best(bench: Bench) -> None:
    evaluation = bench.evaluate()
    losses = {c.name: evaluation.qualities[c.name].log_loss for c in PROJECT.candidates}
    assert losses["good"] < losses["bad"] - 0.01
    assert evaluation.best == "good"
    assert losses[evaluation.best] == min(losses.values())
    assert evaluation.measures["log_loss"] == losses["good"]


def test_the_interval_of_a_difference_is_over_days_that_begin_at_the_cut_off(bench: Bench) -> None:
    """The rows of a day are not independent: with each row a day of its own it would be narrow."""
    rows = pl.read_parquet(bench.snapshot.file("evaluation.parquet"))
    labels = rows["label"].to_numpy().astype(np.int64)
    by_learner = {
        f.learner: log_losses(labels, pl.read_parquet(f.file("scores.parquet"))["score"].to_numpy())
        for f in bench.fits
    }
    since_us = rows["decision_time_us"].to_numpy() - (to_us(DAY) + 9 * HOUR - 8 * DAY_US)
    assert len(np.unique(since_us // DAY_US)) == PROJECT.evaluation_days == 7
    expected = day_block_interval(
        by_learner["good"] - by_learner[PROJECT.reference.name],
        since_us // DAY_US,
        seed=PROJECT.seed,
    )
    assert bench.evaluate().differences["reference"] == expected


def test_a_verified_version_becomes_champion_and_is_noted(bench: Bench) -> None:
    assert bench.promote().changed
    champion = champion_of(bench.registry, PROJECT)
    assert champion is not None
    assert champion.bundle.info.candidate == "good"
    (line,) = (bench.work / PROJECT.name / LIFECYCLE).read_text().splitlines()
    assert json.loads(line)["version"] == "1"


def bundle_of_another(bench: Bench, version: RegisteredVersion) -> RegisteredVersion:
    """The bundle of another learner, which scores otherwise, with a tag that fits it."""
    other = next(f for f in bench.fits if f.learner == "bad")
    run = bench.experiments.runs[version.run_id]
    run.files = {k: v for k, v in run.files.items() if not k.startswith("bundle/")}
    for file in other.file("bundle").rglob("*"):
        run.files[f"bundle/{file.name}"] = file.read_bytes()
    return replace(version, tags={**version.tags, "eventide.bundle_sha256": other.bundle_sha256})


def test_a_version_that_scores_otherwise_than_its_pipeline_is_refused(bench: Bench) -> None:
    verdict, registration = bench.registered()
    fit = next(f for f in bench.fits if f.learner == verdict.candidate)
    version = bench.registry.get(PROJECT.name, registration.version)
    assert verify_deployment(PROJECT, bench.snapshot, fit, version, registry=bench.registry) == 2000
    forged = bundle_of_another(bench, version)
    with pytest.raises(BundleRefused, match="differently"):
        verify_deployment(PROJECT, bench.snapshot, fit, forged, registry=bench.registry)


def test_a_bundle_that_was_changed_on_its_way_is_refused(bench: Bench) -> None:
    evaluation = bench.evaluate()
    verdict = apply_gates(PROJECT, bench.snapshot, evaluation)
    bench.experiments.runs[evaluation.runs[verdict.candidate]].files[f"bundle/{MODEL}"] = b"{}"
    with pytest.raises(BundleRefused):
        register(PROJECT, bench.snapshot, evaluation, verdict, registry=bench.registry)


def test_a_champion_that_no_training_run_registered_holds_the_run(bench: Bench) -> None:
    """Somebody made the version by hand: there is no bundle to compare with."""
    bench.registry.register(PROJECT.name, run_id="r", pipeline=None, example=None, tags={})
    bench.registry.point(PROJECT.name, CHAMPION, "1")
    evaluation = bench.evaluate()
    (reason,) = evaluation.hold_reasons
    assert "version 1 of small_delay has the alias 'champion' and no tag" in reason
    records = {"snapshot": bench.snapshot, "evaluation": evaluation}
    assert hold_reasons(STEP_BY_NAME["gate"], records) == [reason]
    outcome = summarize(
        PROJECT,
        bench.snapshot,
        validation=None,
        evaluation=evaluation,
        verdict=None,
        promotion=None,
    )
    assert (outcome.decision, outcome.reasons) == ("held", (reason,))
    with pytest.raises(BundleRefused, match="no tag"):
        champion_of(bench.registry, PROJECT)


def test_a_held_evaluation_is_made_again_when_the_champion_was_corrected(bench: Bench) -> None:
    bench.registry.register(PROJECT.name, run_id="r", pipeline=None, example=None, tags={})
    bench.registry.point(PROJECT.name, CHAMPION, "1")
    assert bench.evaluate().hold_reasons
    bench.registry.point(PROJECT.name, CHAMPION, "")
    assert bench.evaluate().hold_reasons == ()


@pytest.mark.parametrize("torn", ['{"at": "2013', "[]\n", "null\n", '{"event": "x"}\n', "\xff\n"])
def test_a_line_that_a_crash_tore_off_does_not_stop_a_promotion(bench: Bench, torn: str) -> None:
    file = bench.work / PROJECT.name / LIFECYCLE
    file.parent.mkdir(parents=True)
    file.write_text(torn, encoding="latin-1")
    assert bench.promote().changed
    lines = file.read_bytes().splitlines()
    assert lines[0] == torn.encode("latin-1").rstrip()
    assert [json.loads(line)["version"] for line in lines[1:]] == ["1"]


def test_an_evaluation_that_another_process_has_finished_is_read(bench: Bench) -> None:
    first = bench.evaluate()
    runs = dict(bench.experiments.runs)
    assert bench.evaluate() == first
    assert bench.experiments.runs == runs


def test_an_evaluation_is_unchanged_by_json(bench: Bench) -> None:
    evaluation = bench.evaluate()
    assert msgspec.json.decode(msgspec.json.encode(evaluation), type=Evaluation) == evaluation

"""The steps on a real MLflow: who serves, what is written down, and what a rerun does."""

import json
import os
import warnings
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from ml.adapters.matplotlib import Plots
from ml.bootstrap import set_switches
from ml.bundle.format import MODEL
from ml.errors import BundleRefused, DataContractBroken, MlError, RegistryConflict
from ml.project import ModelProject
from ml.results import Evaluation, Fit, Promotion, Registration, Snapshot, Validation, Verdict
from ml.steps.evaluate import champion_of, evaluate
from ml.steps.extract import extract
from ml.steps.gate import apply_gates
from ml.steps.promote import promote
from ml.steps.register import register
from ml.steps.train import train
from ml.steps.validate import validate
from tests.support.data.flight_history import MadeHistory
from tests.support.data.small_project import DAY, ROWS_A_DAY, small_project

set_switches(os.environ)
with warnings.catch_warnings():
    # What the libraries use of each other and of Python is old; it is not ours to mend.
    warnings.simplefilter("ignore")
    import mlflow
    import mlflow.pyfunc

    from ml.adapters.great_expectations import GreatExpectations
    from ml.adapters.mlflow import MlflowExperiments, MlflowRegistry

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
]


@dataclass(kw_only=True)
class Bench:
    """One project on one MLflow, with the steps up to any of them."""

    project: ModelProject
    url: str
    work: Path

    @property
    def experiments(self) -> MlflowExperiments:
        return MlflowExperiments(self.url)

    @property
    def registry(self) -> MlflowRegistry:
        return MlflowRegistry(self.url)

    def fitted(self, day: date, **history: Any) -> tuple[Snapshot, Validation, list[Fit]]:
        made = MadeHistory(rows_a_day=ROWS_A_DAY, **history)
        snapshot = extract(self.project, day, history=made, work=self.work)
        validation = Validation(expectations=0, findings=())
        _write_page(snapshot)
        return (
            snapshot,
            validation,
            [train(self.project, snapshot, learner.name) for learner in self.project.learners],
        )

    def judged(self, day: date, **history: Any) -> tuple[Snapshot, Evaluation, Verdict]:
        snapshot, validation, fits = self.fitted(day, **history)
        evaluation = evaluate(
            self.project,
            snapshot,
            validation,
            fits,
            experiments=self.experiments,
            registry=self.registry,
            plotter=Plots(),
        )
        return snapshot, evaluation, apply_gates(self.project, snapshot, evaluation)

    def registered(self, day: date, **history: Any) -> tuple[Verdict, Registration]:
        snapshot, evaluation, verdict = self.judged(day, **history)
        done = register(self.project, snapshot, evaluation, verdict, registry=self.registry)
        return verdict, done

    def promoted(self, day: date, **history: Any) -> Promotion:
        verdict, registration = self.registered(day, **history)
        return self.promote(verdict, registration)

    def promote(self, verdict: Verdict, registration: Registration) -> Promotion:
        return promote(
            self.project, registration, verdict, registry=self.registry, work=self.work, now_us=1
        )


def _write_page(snapshot: Snapshot) -> None:
    """What `validate` leaves behind; that step has tests of its own and takes its time."""
    page = snapshot.file("validation/data_docs/validations/page.html")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("<html></html>")


@pytest.fixture
def bench(mlflow_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Bench:
    """A project of this test's own, so that nobody else promotes in it."""
    name = request.node.name.split("[")[0].removeprefix("test_")
    return Bench(project=small_project(name), url=mlflow_url, work=tmp_path)


@pytest.fixture(scope="module")
def first(mlflow_url: str, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A project whose first candidate was promoted."""
    made = Bench(
        project=small_project("first_champion"),
        url=mlflow_url,
        work=tmp_path_factory.mktemp("work"),
    )
    made.promoted(DAY)
    return made


def state(bench: Bench) -> dict[str, Any]:
    """All of a project that a rerun must not change."""
    client = mlflow.MlflowClient(bench.url)
    experiment = client.get_experiment_by_name(bench.project.name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    versions = client.search_model_versions(f"name = '{bench.project.name}'")
    lifecycle = bench.work / bench.project.name / "lifecycle.jsonl"
    return {
        "runs": {r.info.run_id: (r.info.status, r.data.metrics, r.data.tags) for r in runs},
        "versions": {v.version: dict(v.tags) for v in versions},
        "aliases": dict(bench.registry.aliases(bench.project.name)),
        "lifecycle": lifecycle.read_text() if lifecycle.is_file() else "",
    }


def test_the_first_good_candidate_becomes_champion_and_loads_for_serving(first: Bench) -> None:
    found = champion_of(first.registry, first.project.name)
    assert found is not None
    assert found.bundle.info.model == first.project.name
    assert found.version.tags["eventide.rehearsed_rows"] == "2000"
    aliases = first.registry.aliases(first.project.name)
    assert aliases == {"champion": "1", "challenger": "1"}
    (line,) = (first.work / first.project.name / "lifecycle.jsonl").read_text().splitlines()
    assert json.loads(line)["version"] == "1"


def test_a_day_has_a_run_for_each_learner_with_pictures_data_and_bundle(first: Bench) -> None:
    snapshot, evaluation, _ = first.judged(DAY)
    client = mlflow.MlflowClient(first.url)
    day = client.get_run(evaluation.run_id)
    assert set(evaluation.runs) == {"boosted_trees", "logistic", "timetable"}
    assert day.inputs is not None
    assert {d.dataset.digest for d in day.inputs.dataset_inputs} == {snapshot.sha256[:32]}
    assert {a.path for a in client.list_artifacts(day.info.run_id)} >= {
        "plots",
        "evaluation.json",
        "snapshot",
        "data_validation",
    }
    for run_id in evaluation.runs.values():
        run = client.get_run(run_id)
        assert run.data.tags["mlflow.parentRunId"] == day.info.run_id
        assert {"log_loss", "roc_auc", "pr_auc", "brier", "ece", "bias"} <= set(run.data.metrics)
        pictures = {a.path for a in client.list_artifacts(run_id, "plots")}
        assert pictures == {f"plots/{n}.png" for n in ("roc", "precision_recall", "calibration")}


def test_the_registered_pipeline_has_a_signature_and_pinned_requirements(first: Bench) -> None:
    mlflow.set_tracking_uri(first.url)
    info = mlflow.models.get_model_info(f"models:/{first.project.name}@champion")
    assert info.signature is not None
    assert info.signature.inputs.input_names() == list(first.project.columns)
    assert "skops" in info.flavors["sklearn"]["serialization_format"]


def test_a_rerun_of_the_same_day_changes_nothing(first: Bench) -> None:
    before = state(first)
    done = first.promoted(DAY)
    assert done == Promotion(name=first.project.name, version="1", previous=None, changed=False)
    assert state(first) == before


def test_the_next_day_is_judged_against_the_champion_and_held_when_no_better(
    first: Bench,
) -> None:
    before = first.registry.aliases(first.project.name)
    _, evaluation, verdict = first.judged(DAY + timedelta(days=1))
    assert evaluation.champion == "1"
    assert set(evaluation.differences) == {"base_rate", "reference", "champion"}
    assert not verdict.accepted
    assert any("log_loss_minus_champion_upper" in reason for reason in verdict.reasons)
    assert first.registry.aliases(first.project.name) == before


def test_a_champion_that_learnt_from_the_days_it_is_judged_on_is_not_beaten(
    first: Bench,
) -> None:
    _, _, verdict = first.judged(DAY - timedelta(days=4))
    assert any("champion_overlap_hours" in reason for reason in verdict.reasons)


def test_a_much_better_candidate_replaces_the_champion_which_stays_at_hand(bench: Bench) -> None:
    weak = small_project(bench.project.name, candidates=(_only_the_timetable(bench.project),))
    lax = ("log_loss_minus_reference_upper", "absolute_bias")
    weak = replace(weak, gates=tuple(g for g in weak.gates if g.measure not in lax))
    assert Bench(project=weak, url=bench.url, work=bench.work).promoted(DAY).changed
    done = bench.promoted(DAY + timedelta(days=8))
    assert (done.version, done.previous, done.changed) == ("2", "1", True)
    assert bench.registry.aliases(bench.project.name) == {
        "champion": "2",
        "previous": "1",
        "challenger": "2",
    }
    again = Bench(project=weak, url=bench.url, work=bench.work).promoted(DAY)
    assert again.changed is False  # the rerun of an old day does not bring an old model back
    assert bench.registry.aliases(bench.project.name)["champion"] == "2"


def _only_the_timetable(project: ModelProject) -> Any:
    return replace(project.reference, name="weak", options={"C": 1e-4})


def test_noise_is_not_promoted(bench: Bench) -> None:
    """Labels without any cause: the candidate cannot beat the base rate."""
    import polars as pl

    _, _, verdict = bench.judged(
        DAY, change=lambda f: f.with_columns(label=pl.col("label").shuffle(seed=3))
    )
    assert any("log_loss_minus_base_rate_upper" in reason for reason in verdict.reasons)


def test_a_held_candidate_cannot_be_registered(bench: Bench) -> None:
    snapshot, evaluation, verdict = bench.judged(DAY)
    held = Verdict(
        accepted=False, candidate=verdict.candidate, champion=None, checks=(), reasons=("no",)
    )
    with pytest.raises(MlError, match="not accepted"):
        register(bench.project, snapshot, evaluation, held, registry=bench.registry)
    assert bench.registry.aliases(bench.project.name) == {}


def test_a_bundle_changed_in_the_registry_is_never_promoted(bench: Bench) -> None:
    snapshot, evaluation, verdict = bench.judged(DAY)
    run_id = evaluation.runs[verdict.candidate]
    forged = bench.work / MODEL
    forged.write_bytes(b"{}")
    mlflow.MlflowClient(bench.url).log_artifact(run_id, str(forged), "bundle")
    with pytest.raises(BundleRefused):
        register(bench.project, snapshot, evaluation, verdict, registry=bench.registry)
    assert bench.registry.aliases(bench.project.name) == {}


def test_a_version_that_was_not_verified_is_never_promoted(bench: Bench) -> None:
    snapshot, evaluation, verdict = bench.judged(DAY)
    made = bench.registry.register(
        bench.project.name,
        run_id=evaluation.runs[verdict.candidate],
        pipeline=_pipeline(evaluation, verdict),
        example=_example(snapshot, bench.project),
        tags={},
    )
    claimed = Registration(
        name=made.name,
        version=made.version,
        run_id=made.run_id,
        bundle_sha256="",
        verified_rows=1,
    )
    with pytest.raises(RegistryConflict, match="verified"):
        bench.promote(verdict, claimed)


def test_a_verdict_against_another_champion_promotes_nobody(bench: Bench) -> None:
    """Two days were judged when there was no champion yet; the second comes too late."""
    early, late = bench.registered(DAY), bench.registered(DAY, seed=1)
    assert bench.promote(*early).changed
    with pytest.raises(RegistryConflict, match="judged against no champion, but 1 serves"):
        bench.promote(*late)
    assert bench.registry.aliases(bench.project.name)["champion"] == "1"


class Crash(Exception):
    """The process ended here."""


class FailsAt(MlflowRegistry):
    """A registry that is away from its n-th change on."""

    def __init__(self, url: str, *, changes: int) -> None:
        super().__init__(url)
        self._left = changes

    def point(self, name: str, alias: str, version: str) -> None:
        self._count()
        super().point(name, alias, version)

    def tag(self, version: Any, tags: Any) -> None:
        self._count()
        super().tag(version, tags)

    def _count(self) -> None:
        if self._left == 0:
            raise Crash
        self._left -= 1


def test_a_promotion_that_was_cut_off_anywhere_is_finished_by_the_next_try(bench: Bench) -> None:
    snapshot, evaluation, verdict = bench.judged(DAY)
    crashes = 0
    for changes in range(6):
        registry = FailsAt(bench.url, changes=changes)
        try:
            made = register(bench.project, snapshot, evaluation, verdict, registry=registry)
            promote(
                bench.project, made, verdict, registry=registry, work=bench.work, now_us=changes
            )
        except Crash:
            crashes += 1
    assert crashes >= 2
    found = state(bench)
    assert found["aliases"] == {"champion": "1", "challenger": "1"}
    assert list(found["versions"]) == ["1"]
    assert len(found["lifecycle"].splitlines()) == 1


def test_an_evaluation_that_was_cut_off_is_written_anew_and_leaves_no_half(bench: Bench) -> None:
    snapshot, _, fits = bench.fitted(DAY)
    bench.experiments.begin(
        bench.project.name, snapshot.key, title="half", tags={}, learners=[f.learner for f in fits]
    )
    _, evaluation, _ = bench.judged(DAY)
    found = state(bench)["runs"]
    assert set(found) == {evaluation.run_id, *evaluation.runs.values()}
    assert {status for status, _, _ in found.values()} == {"FINISHED"}


def test_a_broken_contract_stops_the_run_and_its_pages_are_in_mlflow(bench: Bench) -> None:
    import polars as pl

    made = MadeHistory(
        rows_a_day=ROWS_A_DAY,
        change=lambda f: f.with_columns(origin=pl.lit("BOS"), dest=pl.lit("LAXX")),
    )
    snapshot = extract(bench.project, DAY, history=made, work=bench.work)
    for _ in range(2):  # a second try says the same and leaves one run
        with pytest.raises(DataContractBroken, match=r"EWR.*and 1 more"):
            validate(
                bench.project,
                snapshot,
                examiner=GreatExpectations,
                experiments=lambda: bench.experiments,
            )
    ((run_id, (status, metrics, tags)),) = state(bench)["runs"].items()
    assert (status, metrics["expectations_broken"]) == ("FAILED", 2)
    assert "only New York's airports" in tags["eventide.reason"]
    pages = mlflow.MlflowClient(bench.url).list_artifacts(run_id, "data_validation")
    assert [p.path for p in pages if p.path.endswith(".html")]


def _pipeline(evaluation: Evaluation, verdict: Verdict) -> Any:
    from ml.steps.register import load_pipeline

    return load_pipeline(evaluation.fits[verdict.candidate].file("model.skops"))


def _example(snapshot: Snapshot, project: ModelProject) -> Any:
    import polars as pl

    from ml.training.frames import to_pandas

    return to_pandas(pl.read_parquet(snapshot.file("evaluation.parquet")).head(3), project.columns)

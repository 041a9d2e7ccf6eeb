"""The steps on a real MLflow: which model serves, what is recorded, and what a rerun changes."""

import json
import os
import warnings
from dataclasses import dataclass, replace
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from structlog.testing import capture_logs

from ml.adapters.matplotlib import Plots
from ml.bootstrap import set_switches
from ml.bundle.format import MANIFEST, MODEL, TREES, sha256_of
from ml.bundle.scoring import Bundle
from ml.conversion import Conversion, check_scores, convert_all
from ml.errors import (
    BundleRefused,
    DataContractBroken,
    MlError,
    RegistryConflict,
    RegistryUnavailable,
)
from ml.project import ModelProject
from ml.registry_tags import PATH_TAG, SHA256_TAG
from ml.results import Evaluation, Fit, Promotion, Registration, Snapshot, Validation, Verdict
from ml.steps.evaluate import champion_of, evaluate
from ml.steps.extract import extract
from ml.steps.gate import apply_gates
from ml.steps.promote import promote
from ml.steps.register import load_pipeline, register
from ml.steps.train import BUNDLE, PIPELINE, SCORES, train
from ml.steps.validate import validate
from tests.support.data.flight_history import SyntheticHistory
from tests.support.data.small_project import DAY, ROWS_A_DAY, small_project
from tests.support.servers import MLFLOW_LOGIN

set_switches(os.environ)
with warnings.catch_warnings():
    # The libraries use deprecated parts of each other and of Python; we cannot fix that.
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
    """One project on one MLflow; each method runs the steps up to one of them."""

    project: ModelProject
    url: str
    work: Path

    @property
    def experiments(self) -> MlflowExperiments:
        return MlflowExperiments(self.url, login=MLFLOW_LOGIN)

    @property
    def registry(self) -> MlflowRegistry:
        return MlflowRegistry(self.url, login=MLFLOW_LOGIN)

    def fitted(self, day: date, **history: Any) -> tuple[Snapshot, Validation, list[Fit]]:
        synthetic = SyntheticHistory(rows_a_day=ROWS_A_DAY, **history)
        snapshot = extract(self.project, day, history=synthetic, work=self.work)
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
        registration = register(self.project, snapshot, evaluation, verdict, registry=self.registry)
        return verdict, registration

    def promoted(self, day: date, **history: Any) -> Promotion:
        verdict, registration = self.registered(day, **history)
        return self.promote(verdict, registration)

    def promote(self, verdict: Verdict, registration: Registration) -> Promotion:
        return promote(
            self.project, registration, verdict, registry=self.registry, work=self.work, now_us=1
        )


def _write_page(snapshot: Snapshot) -> None:
    """Write the page that `validate` would: that step is slow and has tests of its own."""
    page = snapshot.file("validation/data_docs/validations/page.html")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("<html></html>")


@pytest.fixture
def bench(mlflow_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Bench:
    """A project of this test's own, so that no other test promotes in it."""
    name = request.node.name.split("[")[0].removeprefix("test_")
    return Bench(project=small_project(name), url=mlflow_url, work=tmp_path)


@pytest.fixture(scope="module")
def first(mlflow_url: str, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A project whose first candidate was promoted."""
    bench = Bench(
        project=small_project("first_champion"),
        url=mlflow_url,
        work=tmp_path_factory.mktemp("work"),
    )
    bench.promoted(DAY)
    return bench


def state(bench: Bench) -> dict[str, Any]:
    """Everything of a project that a rerun must not change."""
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
    champion = champion_of(first.registry, first.project)
    assert champion is not None
    assert champion.bundle.info.model == first.project.name
    assert champion.version.tags["eventide.rehearsed_rows"] == "2000"
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
    state_before = state(first)
    promotion = first.promoted(DAY)
    assert promotion == Promotion(
        name=first.project.name, version="1", previous=None, changed=False
    )
    assert state(first) == state_before


def test_the_next_day_is_judged_against_the_champion_and_held_when_no_better(
    first: Bench,
) -> None:
    aliases_before = first.registry.aliases(first.project.name)
    _, evaluation, verdict = first.judged(DAY + timedelta(days=1))
    assert evaluation.champion == "1"
    assert set(evaluation.differences) == {"base_rate", "reference", "champion"}
    assert not verdict.accepted
    assert any("log_loss_minus_champion_upper" in reason for reason in verdict.reasons)
    assert first.registry.aliases(first.project.name) == aliases_before


def test_a_champion_trained_on_the_evaluation_days_is_not_replaced(
    first: Bench,
) -> None:
    _, _, verdict = first.judged(DAY - timedelta(days=4))
    assert any("champion_overlap_hours" in reason for reason in verdict.reasons)


def test_a_much_better_candidate_replaces_the_champion_which_is_kept_as_previous(
    bench: Bench,
) -> None:
    weak = small_project(bench.project.name, candidates=(_only_the_timetable(bench.project),))
    lax = ("log_loss_minus_reference_upper", "absolute_bias")
    weak = replace(weak, gates=tuple(g for g in weak.gates if g.measure not in lax))
    assert Bench(project=weak, url=bench.url, work=bench.work).promoted(DAY).changed
    promotion = bench.promoted(DAY + timedelta(days=8))
    assert (promotion.version, promotion.previous, promotion.changed) == ("2", "1", True)
    assert bench.registry.aliases(bench.project.name) == {
        "champion": "2",
        "previous": "1",
        "challenger": "2",
    }
    rerun = Bench(project=weak, url=bench.url, work=bench.work).promoted(DAY)
    assert rerun.changed is False  # the rerun of an old day does not bring an old model back
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
    registered = bench.registry.register(
        bench.project.name,
        run_id=evaluation.runs[verdict.candidate],
        pipeline=_pipeline(evaluation, verdict),
        example=_example(snapshot, bench.project),
        tags={},
    )
    claimed = Registration(
        name=registered.name,
        version=registered.version,
        run_id=registered.run_id,
        bundle_sha256="",
        verified_rows=1,
    )
    with pytest.raises(RegistryConflict, match="verified"):
        bench.promote(verdict, claimed)


def test_a_verdict_against_another_champion_promotes_no_model(bench: Bench) -> None:
    """Both runs were judged before there was a champion; the second promotion is too late."""
    early, late = bench.registered(DAY), bench.registered(DAY, seed=1)
    assert bench.promote(*early).changed
    with pytest.raises(RegistryConflict, match="judged against no champion, but 1 serves"):
        bench.promote(*late)
    assert bench.registry.aliases(bench.project.name)["champion"] == "1"


def test_a_champion_of_an_older_format_keeps_its_number_and_its_scores(bench: Bench) -> None:
    """Converted, with a crash between any two changes of the registry, and by a second call."""
    trees = tuple(c for c in bench.project.candidates if c.name == "boosted_trees")
    bench = replace(bench, project=replace(bench.project, candidates=trees))
    snapshot, evaluation, verdict = bench.judged(DAY)
    registered = register(bench.project, snapshot, evaluation, verdict, registry=bench.registry)
    bench.promote(verdict, registered)
    name, fit = bench.project.name, evaluation.fits[verdict.candidate]
    version = bench.registry.get(name, registered.version)
    old_sha256 = _write_in_format_1(fit, bench.work / "old")
    bench.registry.upload(version, bench.work / "old", "old")
    bench.registry.tag(version, {PATH_TAG: "old", SHA256_TAG: old_sha256})
    with pytest.raises(BundleRefused, match="format 1"):
        champion_of(bench.registry, bench.project)

    def converted(registry: MlflowRegistry) -> list[Conversion]:
        service = bench.project.service
        return convert_all(name, service=service, registry=registry, work=bench.work)

    for changes in range(3):
        with pytest.raises(Crash):
            converted(FailsAt(bench.url, changes=changes))
    (conversion,) = converted(bench.registry)
    champion = champion_of(bench.registry, bench.project)
    assert champion is not None
    assert (conversion.changed, conversion.rows) == (True, snapshot.evaluation_rows)
    assert champion.version.version == registered.version
    assert champion.version.tags[SHA256_TAG] == conversion.bundle_sha256 == fit.bundle_sha256
    (again,) = converted(bench.registry)
    assert not again.changed


def test_a_bundle_whose_scores_are_not_the_stored_ones_is_not_taken(bench: Bench) -> None:
    import polars as pl

    _, evaluation, verdict = bench.judged(DAY)
    fit = evaluation.fits[verdict.candidate]
    bundle = Bundle.load(fit.file(BUNDLE), fit.bundle_sha256)
    assert check_scores(bundle, Path(fit.folder)) > 0
    stored = pl.read_parquet(fit.file(SCORES))
    stored.with_columns(pl.col("score") + 1e-6).write_parquet(fit.file(SCORES))
    with pytest.raises(BundleRefused, match="differently"):
        check_scores(bundle, Path(fit.folder))
    stored.reverse().write_parquet(fit.file(SCORES))
    with pytest.raises(BundleRefused, match="differently"):
        check_scores(bundle, Path(fit.folder))
    fit.file(SCORES).unlink()
    with pytest.raises(MlError, match="gone"):
        check_scores(bundle, Path(fit.folder))


def _write_in_format_1(fit: Fit, folder: Path) -> str:
    """The fit's bundle as releases before format 2 wrote it; returns its manifest's sha256."""
    import treelite.sklearn

    estimator = load_pipeline(fit.file(PIPELINE)).named_steps["model"]
    described = json.loads((fit.file(BUNDLE) / MODEL).read_bytes())
    described["estimator"] = {"type": "trees"}
    contents = {
        MODEL: json.dumps(described).encode(),
        TREES: treelite.sklearn.import_model(estimator).serialize_bytes(),
    }
    files = {n: {"size": len(c), "sha256": sha256_of(c)} for n, c in contents.items()}
    manifest = json.dumps({"format": 1, "files": files}).encode()
    folder.mkdir()
    for name, content in (*contents.items(), (MANIFEST, manifest)):
        (folder / name).write_bytes(content)
    return sha256_of(manifest)


class Crash(Exception):
    """The process ended here."""


class FailsAt(MlflowRegistry):
    """A registry that fails from its n-th change on."""

    def __init__(self, url: str, *, changes: int) -> None:
        super().__init__(url)
        self._left = changes

    def point(self, name: str, alias: str, version: str) -> None:
        self._count()
        super().point(name, alias, version)

    def tag(self, version: Any, tags: Any) -> None:
        for key, value in tags.items():
            self._count()
            super().tag(version, {key: value})

    def _count(self) -> None:
        if self._left == 0:
            raise Crash
        self._left -= 1


def test_a_promotion_interrupted_at_any_step_is_completed_by_the_next_run(bench: Bench) -> None:
    snapshot, evaluation, verdict = bench.judged(DAY)
    crashes = 0
    for changes in range(6):
        registry = FailsAt(bench.url, changes=changes)
        try:
            registration = register(bench.project, snapshot, evaluation, verdict, registry=registry)
            promote(
                bench.project,
                registration,
                verdict,
                registry=registry,
                work=bench.work,
                now_us=changes,
            )
        except Crash:
            crashes += 1
    assert crashes >= 2
    final_state = state(bench)
    assert final_state["aliases"] == {"champion": "1", "challenger": "1"}
    assert list(final_state["versions"]) == ["1"]
    assert len(final_state["lifecycle"].splitlines()) == 1


def test_an_interrupted_evaluation_is_repeated_and_leaves_no_partial_run(bench: Bench) -> None:
    snapshot, _, fits = bench.fitted(DAY)
    bench.experiments.begin(
        bench.project.name, snapshot.key, title="half", tags={}, learners=[f.learner for f in fits]
    )
    _, evaluation, _ = bench.judged(DAY)
    runs = state(bench)["runs"]
    assert set(runs) == {evaluation.run_id, *evaluation.runs.values()}
    assert {status for status, _, _ in runs.values()} == {"FINISHED"}


def test_a_broken_contract_stops_the_run_and_its_pages_are_in_mlflow(bench: Bench) -> None:
    import polars as pl

    broken = SyntheticHistory(
        rows_a_day=ROWS_A_DAY,
        change=lambda f: f.with_columns(origin=pl.lit("BOS"), dest=pl.lit("LAXX")),
    )
    snapshot = extract(bench.project, DAY, history=broken, work=bench.work)
    for _ in range(2):  # a second run fails alike and leaves one MLflow run
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


def test_finished_runs_outlive_a_second_beginning(bench: Bench) -> None:
    """Another process has finished the day between this one's question and its first run."""
    experiments = bench.experiments
    names: dict[str, Any] = {"title": "day", "tags": {}, "learners": ["one"]}
    crashed = experiments.begin(bench.project.name, "key", **names)
    first = experiments.begin(bench.project.name, "key", **names)
    experiments.end(first)
    second = experiments.begin(bench.project.name, "key", **names)
    client = mlflow.MlflowClient(bench.url)
    stages = {
        run: client.get_run(run).info.lifecycle_stage
        for runs in (crashed, first, second)
        for run in (runs.day, runs.learners["one"])
    }
    assert list(stages.values()) == ["deleted"] * 2 + ["active"] * 4
    assert experiments.finished(bench.project.name, "key") == first.day


def test_models_go_to_our_server_whatever_the_environment_names(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    with capture_logs() as logs:
        registry = bench.registry
    assert {line["variable"] for line in logs} == {"MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI"}
    assert registry.aliases(bench.project.name) == {}
    assert mlflow.get_registry_uri() == bench.url


def test_a_deleted_experiment_is_named_with_the_way_back(bench: Bench) -> None:
    client = mlflow.MlflowClient(bench.url)
    client.delete_experiment(client.create_experiment(bench.project.name))
    with pytest.raises(RegistryUnavailable, match="is deleted") as caught:
        bench.experiments.finished(bench.project.name, "key")
    assert "mlflow experiments restore" in (caught.value.hint or "")


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_login_says_so(status: int) -> None:
    class Refuses(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        registry = MlflowRegistry(f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(RegistryUnavailable, match=str(status)) as caught:
            registry.aliases("any")
        assert f"refuses the login ({status})" in (caught.value.hint or "")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

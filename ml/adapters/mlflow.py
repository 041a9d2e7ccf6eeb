"""Runs and versions in MLflow. Importing this module costs seconds: only steps that need it do."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import mlflow.sklearn
from mlflow.data.polars_dataset import from_polars
from mlflow.data.sources import LocalArtifactDatasetSource  # type: ignore[attr-defined]
from mlflow.entities import Dataset, DatasetInput, InputTag, LifecycleStage, Metric, Param, RunTag
from mlflow.environment_variables import (
    MLFLOW_REGISTRY_URI,
    MLFLOW_TRACKING_PASSWORD,
    MLFLOW_TRACKING_URI,
    MLFLOW_TRACKING_USERNAME,
)
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from requests.exceptions import RequestException

from infra.http_client import Login
from infra.logging import log
from ml.bundle.format import MAX_BYTES
from ml.errors import BundleRefused, RegistryUnavailable
from ml.ports import DataSet, DayRuns, RegisteredVersion, RunContents
from ml.registry_tags import CHAMPION, DAY, KEY_TAG, KIND_TAG, LEARNER, PATH_TAG
from ml.steps.register import TRUSTED_TYPES, requirements

PARENT_TAG = "mlflow.parentRunId"
_MISSING = "RESOURCE_DOES_NOT_EXIST"
_EXISTS = "RESOURCE_ALREADY_EXISTS"
_REFUSED = (401, 403)


class MlflowExperiments:
    """One experiment a project: a run a day, and below it one for each learner."""

    def __init__(self, url: str, *, login: Login | None = None) -> None:
        self._client = _client(url, login)

    def finished(self, project: str, key: str) -> str | None:
        """By its key, its kind and its status."""
        run_ids = self._search(project, key, f"attributes.status = 'FINISHED' and {_is_day()}")
        return run_ids[0] if run_ids else None

    def read(self, run_id: str, name: str) -> bytes:
        """Downloaded into a folder that does not outlive the call."""
        with _errors_translated(), tempfile.TemporaryDirectory() as temporary:
            return Path(self._client.download_artifacts(run_id, name, temporary)).read_bytes()

    def begin(
        self,
        project: str,
        key: str,
        *,
        title: str,
        tags: Mapping[str, str],
        learners: Sequence[str],
    ) -> DayRuns:
        """The key is a tag of all of them, so that one search finds them."""
        for unfinished in self._unfinished(project, key):
            with _errors_translated():
                self._client.delete_run(unfinished)
        shared = {**tags, KEY_TAG: key}
        day = self._create(project, title, {**shared, KIND_TAG: DAY})
        below = {KIND_TAG: LEARNER, PARENT_TAG: day}
        return DayRuns(
            day=day,
            learners={
                name: self._create(project, f"{title} {name}", {**shared, **below})
                for name in learners
            },
        )

    def log(self, run_id: str, contents: RunContents, data: Sequence[DataSet] = ()) -> None:
        """One call for numbers and words, one for each data set, then the files."""
        with _errors_translated():
            self._client.log_batch(
                run_id,
                metrics=[Metric(k, float(v), 0, 0) for k, v in contents.metrics.items()],
                params=[Param(k, str(v)) for k, v in contents.params.items()],
                tags=[RunTag(k, v) for k, v in contents.tags.items()],
            )
            if data:
                self._client.log_inputs(run_id, datasets=[_data_set(d) for d in data])
            for place, path in contents.artifacts.items():
                put = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
                put(run_id, str(path), place or None)

    def end(self, runs: DayRuns, *, failed: bool = False) -> None:
        """Learners first: a finished day has only finished learners."""
        status = "FAILED" if failed else "FINISHED"
        with _errors_translated():
            for run_id in (*runs.learners.values(), runs.day):
                self._client.set_terminated(run_id, status)

    def _create(self, project: str, title: str, tags: Mapping[str, str]) -> str:
        with _errors_translated():
            run = self._client.create_run(
                self._experiment(project), run_name=title, tags=dict(tags)
            )
            return str(run.info.run_id)

    def _unfinished(self, project: str, key: str) -> list[str]:
        """The runs with that key that belong to no finished day."""
        runs = self._runs(project, f"tags.`{KEY_TAG}` = '{key}'")
        finished = {
            run.info.run_id
            for run in runs
            if run.info.status == "FINISHED" and run.data.tags.get(KIND_TAG) == DAY
        }
        return [
            run.info.run_id
            for run in runs
            if not finished & {run.info.run_id, run.data.tags.get(PARENT_TAG)}
        ]

    def _search(self, project: str, key: str, condition: str) -> list[str]:
        runs = self._runs(project, f"tags.`{KEY_TAG}` = '{key}' and {condition}")
        return [run.info.run_id for run in runs]

    def _runs(self, project: str, clause: str) -> list[Any]:
        with _errors_translated():
            return list(self._client.search_runs([self._experiment(project)], filter_string=clause))

    def _experiment(self, project: str) -> str:
        experiment = self._client.get_experiment_by_name(project)
        if experiment is not None and experiment.lifecycle_stage == LifecycleStage.DELETED:
            raise RegistryUnavailable(
                f"MLflow: the experiment {project!r} is deleted",
                hint="restore it: `mlflow experiments restore --experiment-id"
                f" {experiment.experiment_id}`",
            )
        if experiment is not None:
            return str(experiment.experiment_id)
        try:
            return str(self._client.create_experiment(project))
        except MlflowException as error:
            if error.error_code != _EXISTS:
                raise
        return self._experiment(project)  # another process was first


class MlflowRegistry:
    """Registered models. Aliases are read as a map: asking for a missing one raises."""

    def __init__(self, url: str, *, login: Login | None = None) -> None:
        self._client = _client(url, login)

    def champion(self, name: str) -> RegisteredVersion | None:
        """The version at the alias `champion`."""
        number = self.aliases(name).get(CHAMPION)
        return None if number is None else self.get(name, number)

    def with_key(self, name: str, key: str) -> RegisteredVersion | None:
        """By its tag; MLflow itself accepts the same key twice."""
        with _errors_translated():
            clause = f"name = '{name}' and tags.`{KEY_TAG}` = '{key}'"
            versions = self._client.search_model_versions(clause)
        return _version(versions[0]) if versions else None

    def get(self, name: str, version: str) -> RegisteredVersion:
        with _errors_translated():
            return _version(self._client.get_model_version(name, version))

    def register(
        self, name: str, *, run_id: str, pipeline: Any, example: Any, tags: Mapping[str, str]
    ) -> RegisteredVersion:
        """The pipeline as a logged model of the run, and a version that points at it.

        Requirements are given: left to find them, MLflow takes a minute.
        """
        with _errors_translated():
            self._ensure_model(name)
            with mlflow.start_run(run_id=run_id):
                logged = mlflow.sklearn.log_model(
                    pipeline,
                    name="model",
                    signature=infer_signature(example, pipeline.predict_proba(example)),
                    input_example=example,
                    pip_requirements=requirements(),
                    pyfunc_predict_fn="predict_proba",
                    skops_trusted_types=list(TRUSTED_TYPES),
                )
            version = self._client.create_model_version(
                name, logged.model_uri, run_id=run_id, tags=dict(tags), model_id=logged.model_id
            )
        return _version(version)

    def download(self, version: RegisteredVersion, folder: Path) -> None:
        """From the place that the version's tag names. What arrives is not checked here.

        Only the files that a bundle may have are fetched, and none that is too large for one.
        """
        with _errors_translated(), tempfile.TemporaryDirectory() as temporary:
            place = version.tags[PATH_TAG]
            for entry in self._client.list_artifacts(version.run_id, place):
                name = entry.path.rsplit("/", 1)[-1]
                if entry.is_dir or (entry.file_size or 0) > MAX_BYTES.get(name, 0):
                    raise BundleRefused(
                        f"version {version.version} of {version.name} holds {entry.path}, which is"
                        " no file of a bundle, or is too large for one"
                    )
                fetched = self._client.download_artifacts(version.run_id, entry.path, temporary)
                shutil.copyfile(fetched, folder / name)

    def upload(self, version: RegisteredVersion, folder: Path, place: str) -> None:
        with _errors_translated():
            self._client.log_artifacts(version.run_id, str(folder), place)

    def tag(self, version: RegisteredVersion, tags: Mapping[str, str]) -> None:
        with _errors_translated():
            for key, value in tags.items():
                self._client.set_model_version_tag(version.name, version.version, key, value)

    def aliases(self, name: str) -> Mapping[str, str]:
        """Alias -> version; empty for a model that is not registered yet."""
        try:
            with _errors_translated():
                aliases = self._client.get_registered_model(name).aliases
        except _Missing:
            return {}
        return {alias: str(version) for alias, version in aliases.items()}

    def point(self, name: str, alias: str, version: str) -> None:
        with _errors_translated():
            self._client.set_registered_model_alias(name, alias, version)

    def _ensure_model(self, name: str) -> None:
        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != _EXISTS:
                raise


class _Missing(RegistryUnavailable):
    """MLflow has no such run, version or alias."""


@contextmanager
def _errors_translated() -> Iterator[None]:
    """Errors of the client in our words."""
    try:
        yield
    except MlflowException as error:
        if error.error_code == _MISSING:
            raise _Missing(f"MLflow: {error.message}") from error
        hint = _hint(error.get_http_status_code())
        raise RegistryUnavailable(f"MLflow: {error.message}", hint=hint) from error
    except RequestException as error:  # of files: they do not pass through MLflow's own errors
        status = error.response.status_code if error.response is not None else 0
        raise RegistryUnavailable(f"MLflow: {error}", hint=_hint(status)) from error


def _hint(status: int) -> str:
    if status in _REFUSED:
        return (
            f"MLflow refuses the login ({status}): it is in MLFLOW_TRACKING_USERNAME and"
            " MLFLOW_TRACKING_PASSWORD"
        )
    return "is it running? see `eventide status`"


def _client(url: str, login: Login | None) -> mlflow.MlflowClient:
    """A client of that server, whatever the environment names: runs and models go to one place.

    MLflow keeps a login in the environment of the process, for all of its clients.
    """
    for variable in (MLFLOW_TRACKING_URI, MLFLOW_REGISTRY_URI):
        named = variable.get()
        if named and named.rstrip("/") != url.rstrip("/"):
            log.warning("mlflow_variable_ignored", variable=variable.name, used=url)
    if login is not None:
        MLFLOW_TRACKING_USERNAME.set(login[0])
        MLFLOW_TRACKING_PASSWORD.set(login[1])
    mlflow.set_tracking_uri(url)
    mlflow.set_registry_uri(url)
    return mlflow.MlflowClient(url, registry_uri=url)


def _is_day() -> str:
    return f"tags.`{KIND_TAG}` = '{DAY}'"


def _version(entity: Any) -> RegisteredVersion:
    return RegisteredVersion(
        name=entity.name,
        version=str(entity.version),
        run_id=str(entity.run_id),
        tags=dict(entity.tags),
    )


def _data_set(data: DataSet) -> DatasetInput:
    """The digest is ours: MLflow's own covers the first 10,000 rows only."""
    import polars as pl

    frame = pl.read_parquet(data.file)
    source: Any = LocalArtifactDatasetSource(str(data.file))
    described = from_polars(
        frame, source=source, name=data.name, targets="label", digest=data.sha256[:32]
    )
    return DatasetInput(
        dataset=Dataset(**described.to_dict()),
        tags=[InputTag("mlflow.data.context", data.context)],
    )

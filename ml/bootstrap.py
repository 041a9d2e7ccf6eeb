"""Puts the steps together with the adapters that settings name. Adapters are made on first use:
each costs seconds of import, and a task pays for what its step needs only."""

from __future__ import annotations

import json
from collections.abc import Iterator, MutableMapping
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from features.catalog import domain, event_types
from infra.airflow.client import AirflowApi
from infra.clock import now_us
from infra.http_client import local_without_proxy
from infra.local_stack.logins import airflow_login, mlflow_login
from infra.settings import Settings
from ml import projects
from ml.errors import NothingToReport
from ml.ports import Examiner, Experiments, History, Plotter, Registry
from ml.project import ModelProject
from ml.results import Snapshot

if TYPE_CHECKING:
    from features.contracts.predictions import Outcome
    from ml.live_performance import LiveReport

SWITCHES = {
    "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads that spin made a fit six times slower
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # 7 would delay a failed task by four minutes
    "GX_ANALYTICS_ENABLED": "false",
    "TQDM_DISABLE": "1",
}


def set_switches(environment: MutableMapping[str, str]) -> None:
    """What the libraries read from the environment when they are imported; set values stay."""
    for name, value in SWITCHES.items():
        environment.setdefault(name, value)
    environment.update(local_without_proxy(environment))


class Trainer:
    """What the steps of one project work with; the port is `ml.ports.TrainingServices`."""

    def __init__(self, project: ModelProject, settings: Settings) -> None:
        self.project, self._settings = project, settings
        self.work = Path(settings.work_dir)

    @classmethod
    def of(cls, name: str, settings: Settings) -> Trainer:
        """The trainer of the project of that name.

        Raises:
            InvalidProject: there is none.
        """
        return cls(projects.project(name), settings)

    @property
    def history(self) -> History:
        """Decisions with features and labels, from the offline store."""
        from features.bootstrap.stores import open_offline
        from features.bootstrap.training_sets import ends_at
        from features.retrieval.historical import training_rows

        return partial(
            training_rows,
            store=open_offline(self._settings),
            duplicate_horizon_us=self._settings.ingest.duplicate_horizon_us,
            ends=partial(ends_at, self._settings),
        )

    @cached_property
    def experiments(self) -> Experiments:
        """Where runs are logged: MLflow."""
        from ml.adapters.mlflow import MlflowExperiments

        return MlflowExperiments(self._settings.mlflow_url, login=mlflow_login(self._settings))

    @cached_property
    def registry(self) -> Registry:
        """The versions that may serve: MLflow's registry."""
        from ml.adapters.mlflow import MlflowRegistry

        return MlflowRegistry(self._settings.mlflow_url, login=mlflow_login(self._settings))

    @cached_property
    def plotter(self) -> Plotter:
        """Plots by matplotlib."""
        from ml.adapters.matplotlib import Plots

        return Plots()

    def examiner(self) -> Examiner:
        """Great Expectations, in memory."""
        from ml.adapters.great_expectations import GreatExpectations

        return GreatExpectations()

    def pin(self, snapshot: Snapshot) -> None:
        """A version that was just read is still in the table: no maintenance can be faster."""
        from features.bootstrap.stores import open_offline

        store = open_offline(self._settings)
        tables = json.loads(snapshot.file("manifest.json").read_text())["tables"]
        events = {event.name: event for event in event_types()}
        for name, table in tables.items():
            if table["delta_version"] is not None:
                store.pin(
                    events[name], table["delta_version"], f"{snapshot.project}/{snapshot.key}"
                )

    def now_us(self) -> int:
        """By this machine's clock."""
        return now_us()

    def live_report(self, *, start_us: int, end_us: int) -> LiveReport:
        """Compare the served predictions of a span with the labels in the offline store.

        Raises:
            NothingToReport: the store is empty, or no prediction of the span has a label.
        """
        from features.bootstrap.stores import open_offline
        from ml.live_performance import for_reference, live_report

        newest = open_offline(self._settings).newest_known_at_us(self.project.label.source)
        if newest is None:
            raise NothingToReport(
                f"the offline store holds no {self.project.label.source.name}",
                hint="replay and ingest events first",
            )
        return live_report(
            self.project,
            self._outcomes(),
            history=for_reference(self.project, self.history),
            start_us=start_us,
            end_us=end_us,
            as_of_us=newest + 1,
        )

    def _outcomes(self) -> Iterator[Outcome]:
        import msgspec

        from features.contracts.predictions import Outcome
        from infra.kafka.topic_reader import read_all

        decode = msgspec.json.Decoder(Outcome).decode
        topic = domain(self.project.domain).predictions_topic
        for message in read_all(self._settings.kafka, [topic]):
            yield decode(message.value() or b"")


def airflow_api(settings: Settings) -> AirflowApi:
    """The Airflow of the settings, with its login."""
    username, password = airflow_login(settings)
    return AirflowApi(settings.airflow_url, username=username, password=password)

"""Puts the steps together with the adapters that settings name. Adapters are made on first use:
each costs seconds of import, and a task pays for what its step needs only."""

from __future__ import annotations

import json
from collections.abc import Iterator, MutableMapping
from datetime import date
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from features.catalog import domain, event_types
from infra.clock import now_us
from infra.settings import Settings
from ml import projects
from ml.errors import NothingToReport
from ml.ports import Examiner, Experiments, History, Plotter, Registry
from ml.project import ModelProject
from ml.results import (
    Evaluation,
    Fit,
    Outcome,
    Promotion,
    Registration,
    Snapshot,
    Validation,
    Verdict,
)
from ml.steps.decide import decide
from ml.steps.summary import outcome

if TYPE_CHECKING:
    from features.contracts.predictions import Outcome as Forecast
    from ml.live_performance import Report

SWITCHES = {
    "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads that spin made a fit six times slower
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # 7 would hold a dead task for four minutes
    "GX_ANALYTICS_ENABLED": "false",
    "TQDM_DISABLE": "1",
}


def set_switches(environment: MutableMapping[str, str]) -> None:
    """What the libraries read from the environment when they are imported; set values stay."""
    for name, value in SWITCHES.items():
        environment.setdefault(name, value)


class Trainer:
    """The steps of one project, each with the adapters that it needs."""

    def __init__(self, project: ModelProject, settings: Settings) -> None:
        self.project, self._settings = project, settings
        self._work = Path(settings.work_dir)

    @classmethod
    def of(cls, name: str, settings: Settings) -> Trainer:
        """The trainer of the project of that name."""
        return cls(projects.project(name), settings)

    def extract(self, day: date) -> Snapshot:
        """See `ml.steps.extract`. The versions that it read stay readable."""
        from ml.steps.extract import extract

        snapshot = extract(self.project, day, history=self._history, work=self._work)
        if not snapshot.held:
            self._pin(snapshot)
        return snapshot

    def validate(self, snapshot: Snapshot) -> Validation:
        """See `ml.steps.validate`."""
        from ml.steps.validate import validate

        return validate(
            self.project, snapshot, examiner=self._examiner, experiments=lambda: self._experiments
        )

    def train(self, snapshot: Snapshot, learner: str) -> Fit:
        """See `ml.steps.train`."""
        from ml.steps.train import train

        return train(self.project, snapshot, learner)

    def evaluate(self, snapshot: Snapshot, validation: Validation, fits: list[Fit]) -> Evaluation:
        """See `ml.steps.evaluate`."""
        from ml.steps.evaluate import evaluate

        return evaluate(
            self.project,
            snapshot,
            validation,
            fits,
            experiments=self._experiments,
            registry=self._registry,
            plotter=self._plotter,
        )

    def decide(self, snapshot: Snapshot, evaluation: Evaluation) -> Verdict:
        """See `ml.steps.decide`."""
        return decide(self.project, snapshot, evaluation)

    def register(
        self, snapshot: Snapshot, evaluation: Evaluation, verdict: Verdict
    ) -> Registration:
        """See `ml.steps.register`."""
        from ml.steps.register import register

        return register(self.project, snapshot, evaluation, verdict, registry=self._registry)

    def promote(self, registration: Registration, verdict: Verdict) -> Promotion:
        """See `ml.steps.promote`."""
        from ml.steps.promote import promote

        return promote(
            self.project,
            registration,
            verdict,
            registry=self._registry,
            work=self._work,
            now_us=now_us(),
        )

    def outcome(
        self,
        snapshot: Snapshot,
        *,
        validation: Validation | None = None,
        evaluation: Evaluation | None = None,
        verdict: Verdict | None = None,
        promotion: Promotion | None = None,
    ) -> Outcome:
        """See `ml.steps.summary`."""
        return outcome(
            self.project,
            snapshot,
            validation=validation,
            evaluation=evaluation,
            verdict=verdict,
            promotion=promotion,
        )

    def report(self, *, start_us: int, end_us: int) -> Report:
        """See `ml.live_performance`. What counts as known is all that the offline store holds.

        Raises:
            NothingToReport: the store is empty, or see there.
        """
        from features.bootstrap.stores import open_offline
        from ml.live_performance import report

        store = open_offline(self._settings)
        newest = store.newest_known_at_us(self.project.label.source)
        if newest is None:
            raise NothingToReport(
                f"the offline store holds no {self.project.label.source.name}",
                hint="replay and ingest some events first",
            )
        return report(
            self.project,
            self._forecasts(),
            history=self._history,
            start_us=start_us,
            end_us=end_us,
            as_of_us=newest + 1,
        )

    def _forecasts(self) -> Iterator[Forecast]:
        import msgspec

        from features.contracts.predictions import Outcome as Forecast
        from infra.kafka.topic_reader import read_all

        decode = msgspec.json.Decoder(Forecast).decode
        topic = domain(self.project.domain).predictions_topic
        for message in read_all(self._settings.kafka, [topic]):
            yield decode(message.value() or b"")

    def _pin(self, snapshot: Snapshot) -> None:
        """A version that was just read is in the table still: no upkeep can be faster."""
        from features.bootstrap.stores import open_offline

        store = open_offline(self._settings)
        tables = json.loads(snapshot.file("manifest.json").read_text())["tables"]
        events = {event.name: event for event in event_types()}
        for name, table in tables.items():
            if table["delta_version"] is not None:
                store.pin(
                    events[name], table["delta_version"], f"{snapshot.project}/{snapshot.key}"
                )

    @property
    def _history(self) -> History:
        from features.bootstrap.stores import open_offline
        from features.retrieval.historical import training_rows

        return partial(
            training_rows,
            store=open_offline(self._settings),
            duplicate_horizon_us=self._settings.ingest.duplicate_horizon_us,
        )

    @cached_property
    def _experiments(self) -> Experiments:
        from ml.adapters.mlflow import MlflowExperiments

        return MlflowExperiments(self._settings.mlflow_url)

    @cached_property
    def _registry(self) -> Registry:
        from ml.adapters.mlflow import MlflowRegistry

        return MlflowRegistry(self._settings.mlflow_url)

    @cached_property
    def _plotter(self) -> Plotter:
        from ml.adapters.matplotlib import Plots

        return Plots()

    @staticmethod
    def _examiner() -> Examiner:
        from ml.adapters.great_expectations import GreatExpectations

        return GreatExpectations()

"""The steps with JSON-able values in and out, as a scheduler carries them between tasks."""

from collections.abc import Iterable
from datetime import date
from typing import Any

from infra.settings import Settings
from ml.bootstrap import Trainer
from ml.results import (
    Evaluation,
    Fit,
    Promotion,
    Registration,
    Snapshot,
    Validation,
    Verdict,
    from_plain,
    to_plain,
)

Plain = dict[str, Any]


class SerializedSteps:
    """Each method is the step of that name; see `ml.steps`."""

    def __init__(self, project: str, settings: Settings) -> None:
        self._trainer = Trainer.of(project, settings)

    def extract(self, day: str) -> Plain:
        """Day (ISO) -> snapshot."""
        return to_plain(self._trainer.extract(date.fromisoformat(day)))

    def validate(self, snapshot: Plain) -> Plain:
        """Snapshot -> validation."""
        return to_plain(self._trainer.validate(from_plain(snapshot, Snapshot)))

    def train(self, snapshot: Plain, learner: str) -> Plain:
        """Snapshot and the name of a learner -> fit."""
        return to_plain(self._trainer.train(from_plain(snapshot, Snapshot), learner))

    def evaluate(self, snapshot: Plain, validation: Plain, fits: Iterable[Plain]) -> Plain:
        """Snapshot, validation and all fits -> evaluation."""
        evaluation = self._trainer.evaluate(
            from_plain(snapshot, Snapshot),
            from_plain(validation, Validation),
            [from_plain(fit, Fit) for fit in fits],
        )
        return to_plain(evaluation)

    def decide(self, snapshot: Plain, evaluation: Plain) -> Plain:
        """Snapshot and evaluation -> verdict. Pure: the same again, wherever it is asked."""
        return to_plain(self._verdict(snapshot, evaluation))

    def register(self, snapshot: Plain, evaluation: Plain) -> Plain:
        """Snapshot and accepted evaluation -> registration."""
        registration = self._trainer.register(
            from_plain(snapshot, Snapshot),
            from_plain(evaluation, Evaluation),
            self._verdict(snapshot, evaluation),
        )
        return to_plain(registration)

    def promote(self, snapshot: Plain, evaluation: Plain, registration: Plain) -> Plain:
        """What `register` was given, and what it gave -> promotion."""
        verdict = self._verdict(snapshot, evaluation)
        return to_plain(self._trainer.promote(from_plain(registration, Registration), verdict))

    def outcome(
        self,
        snapshot: Plain,
        *,
        validation: Plain | None,
        evaluation: Plain | None,
        promotion: Plain | None,
    ) -> Plain:
        """Whatever the run got to -> how it ended."""
        outcome = self._trainer.outcome(
            from_plain(snapshot, Snapshot),
            validation=from_plain(validation, Validation) if validation else None,
            evaluation=from_plain(evaluation, Evaluation) if evaluation else None,
            verdict=self._verdict(snapshot, evaluation) if evaluation else None,
            promotion=from_plain(promotion, Promotion) if promotion else None,
        )
        return to_plain(outcome)

    def _verdict(self, snapshot: Plain, evaluation: Plain) -> Verdict:
        return self._trainer.decide(
            from_plain(snapshot, Snapshot), from_plain(evaluation, Evaluation)
        )

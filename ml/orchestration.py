"""All steps of one day in this process, one after the other: training without a scheduler."""

import time
from collections.abc import Callable
from datetime import date
from typing import TypeVar

from ml.bootstrap import Trainer
from ml.results import Outcome

T = TypeVar("T")
StatusCallback = Callable[[str], None]


def run_day(trainer: Trainer, day: date, *, on_progress: StatusCallback) -> Outcome:
    """Train, judge and, when it is good enough, promote. A day that was run changes nothing.

    Raises:
        DataNotReady: the offline store does not reach to the day's cut-off.
        DataContractBroken: the data breaks a critical expectation.
    """

    def step(title: str, work: Callable[[], T], describe: Callable[[T], str]) -> T:
        begun = time.monotonic()
        done = work()
        on_progress(f"{title:<22} {time.monotonic() - begun:6.1f} s  {describe(done)}")
        return done

    snapshot = step(
        "extract",
        lambda: trainer.extract(day),
        lambda s: f"{s.training_rows:,} rows to learn from, {s.evaluation_rows:,} to judge on",
    )
    if snapshot.held:
        return trainer.outcome(snapshot)
    validation = step(
        "validate",
        lambda: trainer.validate(snapshot),
        lambda v: f"{v.expectations} expectations, {len(v.findings)} warnings",
    )
    fits = [
        step(
            f"train {learner.name}",
            lambda learner=learner: trainer.train(snapshot, learner.name),  # type: ignore[misc]
            lambda f: f"{f.columns} columns, fitted in {f.fit_seconds} s",
        )
        for learner in trainer.project.learners
    ]
    evaluation = step(
        "evaluate",
        lambda: trainer.evaluate(snapshot, validation, fits),
        lambda e: f"best is {e.best}, log loss {e.qualities[e.best].log_loss:.4f}",
    )
    verdict = trainer.decide(snapshot, evaluation)
    promotion = None
    if verdict.accepted:
        registration = step(
            "register",
            lambda: trainer.register(snapshot, evaluation, verdict),
            lambda r: f"version {r.version}, {r.rehearsed_rows:,} rows scored alike",
        )
        promotion = step(
            "promote",
            lambda: trainer.promote(registration, verdict),
            lambda p: f"version {p.version} serves" if p.changed else "done before",
        )
    return trainer.outcome(
        snapshot,
        validation=validation,
        evaluation=evaluation,
        verdict=verdict,
        promotion=promotion,
    )

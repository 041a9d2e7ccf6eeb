"""The steps of a training run in order: what each needs, what it gives, when a run ends early.

This table is the only list of them. `eventide train`, the Airflow DAG and the tests go through it,
so a new step is a function in this package and an entry here. DAG files import this module at
every parse: it loads no library for tables or for learning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from msgspec import Struct

from ml.ports import TrainingServices
from ml.results import (
    Evaluation,
    Fit,
    Promotion,
    Registration,
    RunOutcome,
    Snapshot,
    Validation,
    Verdict,
)
from ml.steps import evaluate, extract, gate, promote, register, summary, train, validate


def _nothing(_: Any) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a run. Records travel by name: what a step `gives`, a later one `needs`.

    A record may say that the run ends here: `holds` gives the reasons, and no later step that
    needs the record runs, but for the step that `reports`.
    """

    name: str  # also the id of its task
    meaning: str
    run: Callable[..., Any]  # run(services, **records) -> the record, see `result_type`
    needs: tuple[str, ...]
    gives: str
    record: type[Struct]
    describe: Callable[[Any], str] | None = None  # one line for people
    log_lines: Callable[[Any], Sequence[str]] = _nothing  # details, for the log of its task
    holds: Callable[[Any], Sequence[str]] = _nothing
    for_each_learner: bool = False  # runs once for each; gives the list of all records
    reports: bool = False  # runs also after a run has ended early; missing records are None
    announces: Callable[[Any], dict[str, Any]] | None = (
        None  # for a step that changes which version serves
    )
    group: str | None = None  # of tasks that belong together
    pool: str | None = None  # the scheduler's limit on how many such tasks run at once

    @property
    def result_type(self) -> Any:
        """The type of what later steps are given."""
        return list[self.record] if self.for_each_learner else self.record  # type: ignore[name-defined]


def _extract(services: TrainingServices, day: date) -> Snapshot:
    snapshot = extract.extract(services.project, day, history=services.history, work=services.work)
    if not snapshot.hold_reasons:
        services.pin(snapshot)
    return snapshot


def _validate(services: TrainingServices, snapshot: Snapshot) -> Validation:
    return validate.validate(
        services.project,
        snapshot,
        examiner=services.examiner,
        experiments=lambda: services.experiments,
    )


def _train(services: TrainingServices, snapshot: Snapshot, learner: str) -> Fit:
    return train.train(services.project, snapshot, learner)


def _evaluate(
    services: TrainingServices, snapshot: Snapshot, validation: Validation, fits: list[Fit]
) -> Evaluation:
    return evaluate.evaluate(
        services.project,
        snapshot,
        validation,
        fits,
        experiments=services.experiments,
        registry=services.registry,
        plotter=services.plotter,
    )


def _gate(services: TrainingServices, snapshot: Snapshot, evaluation: Evaluation) -> Verdict:
    return gate.apply_gates(services.project, snapshot, evaluation)


def _register(
    services: TrainingServices, snapshot: Snapshot, evaluation: Evaluation, verdict: Verdict
) -> Registration:
    return register.register(
        services.project, snapshot, evaluation, verdict, registry=services.registry
    )


def _promote(services: TrainingServices, registration: Registration, verdict: Verdict) -> Promotion:
    return promote.promote(
        services.project,
        registration,
        verdict,
        registry=services.registry,
        work=services.work,
        now_us=services.now_us(),
    )


def _report(
    services: TrainingServices,
    *,
    snapshot: Snapshot,
    validation: Validation | None,
    evaluation: Evaluation | None,
    verdict: Verdict | None,
    promotion: Promotion | None,
) -> RunOutcome:
    return summary.summarize(
        services.project,
        snapshot,
        validation=validation,
        evaluation=evaluation,
        verdict=verdict,
        promotion=promotion,
    )


def _gate_lines(verdict: Verdict) -> list[str]:
    return [f"{'passed' if c.passed else 'HELD  '} {c.text}" for c in verdict.checks]


STEPS: tuple[Step, ...] = (
    Step(
        name="extract",
        meaning="Read what was known at the cut-off and split it by time.",
        run=_extract,
        needs=("day",),
        gives="snapshot",
        record=Snapshot,
        describe=lambda s: (
            f"{s.training_rows:,} rows to train on, {s.evaluation_rows:,} to evaluate on"
        ),
        holds=lambda s: s.hold_reasons,
    ),
    Step(
        name="validate",
        meaning="Compare the data with the project's expectations.",
        run=_validate,
        needs=("snapshot",),
        gives="validation",
        record=Validation,
        describe=lambda v: f"{v.expectations} expectations, {len(v.findings)} warnings",
    ),
    Step(
        name="train",
        meaning="Fit one learner.",
        run=_train,
        needs=("snapshot", "learner"),
        gives="fits",
        record=Fit,
        describe=lambda f: f"{f.columns} columns, fitted in {f.fit_seconds} s",
        for_each_learner=True,
        pool="training",
    ),
    Step(
        name="evaluate",
        meaning="Evaluate all learners and the champion on the same later decisions.",
        run=_evaluate,
        needs=("snapshot", "validation", "fits"),
        gives="evaluation",
        record=Evaluation,
        describe=lambda e: f"best is {e.best}, log loss {e.qualities[e.best].log_loss:.4f}",
        log_lines=lambda e: e.hold_reasons,
        holds=lambda e: e.hold_reasons,
    ),
    Step(
        name="gate",
        meaning="Decide whether the best candidate may serve: every gate must pass.",
        run=_gate,
        needs=("snapshot", "evaluation"),
        gives="verdict",
        record=Verdict,
        log_lines=_gate_lines,
        holds=lambda v: v.reasons,
    ),
    Step(
        name="register",
        meaning="Register the candidate as a version, and verify a download of its bundle.",
        run=_register,
        needs=("snapshot", "evaluation", "verdict"),
        gives="registration",
        record=Registration,
        describe=lambda r: f"version {r.version}, {r.verified_rows:,} rows verified",
        group="release",
        pool="promotion",
    ),
    Step(
        name="promote",
        meaning="Make the version the champion.",
        run=_promote,
        needs=("registration", "verdict"),
        gives="promotion",
        record=Promotion,
        describe=lambda p: f"version {p.version} serves" if p.changed else "promoted earlier",
        announces=lambda p: {"version": p.version},
        group="release",
        pool="promotion",
    ),
    Step(
        name="report",
        meaning="Sum up how the run ended.",
        run=_report,
        needs=("snapshot", "validation", "evaluation", "verdict", "promotion"),
        gives="outcome",
        record=RunOutcome,
        reports=True,
    ),
)

STEP_BY_NAME = {step.name: step for step in STEPS}
GIVEN_BY = {step.gives: step for step in STEPS}
"""Name of a record -> the step that gives it."""

RECORD_TYPES: dict[str, Any] = {
    "day": date,
    "learner": str,
    **{step.gives: step.result_type for step in STEPS},
}


def hold_reasons(step: Step, records: Mapping[str, Any]) -> list[str]:
    """Why the step does not run, from the records that it needs. Empty: it runs."""
    if step.reports:
        return []
    return [
        reason
        for name in step.needs
        if name in GIVEN_BY
        for reason in GIVEN_BY[name].holds(records[name])
    ]

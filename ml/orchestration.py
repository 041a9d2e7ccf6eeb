"""Runs the table of steps: all of a day in this process, or one by one with JSON in between."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from infra.process.progress import StatusCallback
from ml.errors import StepHeld
from ml.ports import TrainingServices
from ml.results import RunOutcome, from_plain, to_plain
from ml.steps.table import GIVEN_BY, RECORD_TYPES, STEP_BY_NAME, STEPS, Step, hold_reasons


@dataclass(frozen=True, kw_only=True)
class SerializedResult:
    """The result of a step: its record as JSON values, and what its task logs and announces."""

    record: dict[str, Any]
    log_lines: Sequence[str]
    announcement: dict[str, Any] | None  # see `Step.announces`


def run_day(services: TrainingServices, day: date, *, on_progress: StatusCallback) -> RunOutcome:
    """Run all steps of a day. A day that has already run changes nothing.

    Raises:
        DataNotReady: the offline store does not reach to the day's cut-off.
        DataContractBroken: the data breaks a critical expectation.
    """
    records: dict[str, Any] = {"day": day}
    for step in STEPS:
        records[step.gives] = (
            _run(services, step, records, on_progress) if _can_run(step, records) else None
        )
    outcome: RunOutcome = records[STEPS[-1].gives]
    return outcome


def run_serialized(
    services: TrainingServices, name: str, plain: Mapping[str, Any]
) -> SerializedResult:
    """Run the step of that name with its records as JSON values, as a scheduler carries them.

    Raises:
        StepHeld: a record that it needs says that the run ends here.
    """
    step = STEP_BY_NAME[name]
    records = {need: _record(need, plain[need]) for need in step.needs}
    if reasons := hold_reasons(step, records):
        raise StepHeld(f"held: {'; '.join(reasons)}")
    record = step.run(services, **records)
    return SerializedResult(
        record=to_plain(record),
        log_lines=step.log_lines(record),
        announcement=step.announces(record) if step.announces else None,
    )


def _record(name: str, plain: Any) -> Any:
    """A record from its JSON values. What a skipped step would have given is None."""
    if plain is None:
        return None
    several = name in GIVEN_BY and GIVEN_BY[name].for_each_learner
    return from_plain(list(plain) if several else plain, RECORD_TYPES[name])


def _can_run(step: Step, records: Mapping[str, Any]) -> bool:
    """Whether all records that the step needs exist, and none of them ends the run."""
    if step.reports:
        return True
    given = {name: records[name] for name in step.needs if name != "learner"}
    return None not in given.values() and not hold_reasons(step, given)


def _run(
    services: TrainingServices,
    step: Step,
    records: Mapping[str, Any],
    on_progress: StatusCallback,
) -> Any:
    if not step.for_each_learner:
        return _timed(services, step, records, title=step.name, on_progress=on_progress)
    return [
        _timed(
            services,
            step,
            {**records, "learner": learner.name},
            title=f"{step.name} {learner.name}",
            on_progress=on_progress,
        )
        for learner in services.project.learners
    ]


def _timed(
    services: TrainingServices,
    step: Step,
    records: Mapping[str, Any],
    *,
    title: str,
    on_progress: StatusCallback,
) -> Any:
    begun = time.monotonic()
    record = step.run(services, **{name: records[name] for name in step.needs})
    if step.describe:
        seconds = time.monotonic() - begun
        on_progress(f"{title:<22} {seconds:6.1f} s  {step.describe(record)}")
    return record

"""The table of steps is consistent, and JSON between the steps changes nothing."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from ml.errors import StepHeld
from ml.orchestration import run_day, run_serialized
from ml.ports import Examiner, Experiments, History, Plotter, Registry
from ml.project import ModelProject
from ml.results import Snapshot, to_plain
from ml.steps.table import RECORD_TYPES, STEP_BY_NAME, STEPS
from tests.support.data.flight_history import SyntheticHistory
from tests.support.data.small_project import DAY, ROWS_A_DAY, small_project


@dataclass(kw_only=True)
class WithoutServers:
    """The services of the steps up to training, without those that need a server."""

    work: Path
    history: History
    project: ModelProject

    @property
    def experiments(self) -> Experiments:
        raise NotImplementedError

    @property
    def registry(self) -> Registry:
        raise NotImplementedError

    @property
    def plotter(self) -> Plotter:
        raise NotImplementedError

    def examiner(self) -> Examiner:
        raise NotImplementedError

    def pin(self, snapshot: Snapshot) -> None:
        """Synthetic history has no versions."""

    def now_us(self) -> int:
        return 1


def services(work: Path, *, rows_a_day: int = ROWS_A_DAY) -> WithoutServers:
    return WithoutServers(
        work=work, history=SyntheticHistory(rows_a_day=rows_a_day), project=small_project()
    )


def through_json(trainer: WithoutServers, name: str, **plain: Any) -> Any:
    return run_serialized(trainer, name, plain).record


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_step_has_the_types_of_its_row(step: Any) -> None:
    hints = get_type_hints(step.run)
    assert hints.pop("return") is step.record
    names = tuple(inspect.signature(step.run).parameters)
    assert names == ("services", *step.needs)
    for name in step.needs:
        expected = RECORD_TYPES[name]
        assert hints[name] == (expected | None if step.reports and name != "snapshot" else expected)


def test_a_step_needs_only_records_of_earlier_steps() -> None:
    available = {"day", "learner"}
    for step in STEPS:
        assert set(step.needs) <= available
        available.add(step.gives)
    assert len(available) == len(STEPS) + 2


def test_only_the_last_step_reports() -> None:
    assert [step.reports for step in STEPS] == [False] * (len(STEPS) - 1) + [True]


@pytest.mark.slow
def test_the_steps_give_the_same_records_with_json_in_between(tmp_path: Path) -> None:
    direct, serialized = services(tmp_path / "a"), services(tmp_path / "b")
    snapshot = STEP_BY_NAME["extract"].run(direct, day=DAY)
    plain = through_json(serialized, "extract", day=DAY.isoformat())
    assert plain == {**to_plain(snapshot), "folder": plain["folder"]}
    fit = STEP_BY_NAME["train"].run(direct, snapshot=snapshot, learner="logistic")
    plain_fit = through_json(serialized, "train", snapshot=plain, learner="logistic")
    assert plain_fit["bundle_sha256"] == fit.bundle_sha256


def test_a_run_without_enough_data_reports_the_reason_and_stops(tmp_path: Path) -> None:
    lines: list[str] = []
    report = run_day(services(tmp_path, rows_a_day=50), DAY, on_progress=lines.append)
    assert (report.decision, report.version) == ("held", None)
    assert any("training_rows" in reason for reason in report.reasons)
    assert [line.split()[0] for line in lines] == ["extract"]


def test_a_task_after_the_end_of_a_run_reports_why_it_does_nothing(tmp_path: Path) -> None:
    trainer = services(tmp_path, rows_a_day=50)
    plain = through_json(trainer, "extract", day=DAY.isoformat())
    with pytest.raises(StepHeld, match="held: training_rows"):
        through_json(trainer, "validate", snapshot=plain)
    ended = {"validation": None, "evaluation": None, "verdict": None, "promotion": None}
    report = through_json(trainer, "report", snapshot=plain, **ended)
    assert report["reasons"] == plain["held"]

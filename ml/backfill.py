"""Trains past days through an Airflow backfill, and reports its progress."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from infra.airflow.client import AirflowApi, DagRun, TaskRun
from infra.errors import EventideError

DAG_APPEARS_WITHIN_S = 90.0
RUN_TAKES_AT_MOST_S = 1_800.0
RESULT_TASK = "report"
_BEFORE_IT_BEGINS = ("waiting", "scheduled")
_BEFORE_IT_ENDS = (*_BEFORE_IT_BEGINS, "queued", "running")


@dataclass(frozen=True, kw_only=True)
class TrainedDay:
    """A finished run and what it reported."""

    day: date
    run_id: str
    state: str
    seconds: float
    report: Any
    failures: dict[str, str]


def dag_id(project: str) -> str:
    """The name of the project's DAG."""
    return f"train_{project}"


def backfill(
    api: AirflowApi,
    project: str,
    *,
    first: date,
    last: date,
    again: bool = False,
    on_progress: Callable[[str], None],
) -> list[TrainedDay]:
    """Run the project's DAG for the days `first` to `last` and wait for the end of each.

    Days that have run already are not run again (a failed one is with `again`).

    Raises:
        EventideError: the DAG is unknown or paused, or a run took longer than half an hour.
    """
    dag = dag_id(project)
    _wait(lambda: api.has_dag(dag), DAG_APPEARS_WITHIN_S, f"Airflow knows no DAG {dag}")
    _require_active(api, dag)
    api.backfill(dag, first=first, last=last, again=again)
    days = (last - first).days + 1
    _wait(
        lambda: len(api.runs(dag, first=first, last=last)) >= days,
        DAG_APPEARS_WITHIN_S,
        f"Airflow has not created all {days} runs of {dag}",
    )
    return [
        _watch(api, dag, first + timedelta(days=i), on_progress=on_progress) for i in range(days)
    ]


def _watch(
    api: AirflowApi, dag: str, day: date, *, on_progress: Callable[[str], None]
) -> TrainedDay:
    """Report each change of state of the day's run until the run ends."""
    begun = time.monotonic()
    shown: dict[str, str] = {}

    def ended() -> bool:
        run = _run_of(api, dag, day)
        if run.state == "queued":
            _require_active(api, dag)
        for task in api.tasks(dag, run.run_id):
            if task.state in (_BEFORE_IT_BEGINS if task.is_named else _BEFORE_IT_ENDS):
                continue
            if shown.get(task.name) != task.state:
                shown[task.name] = task.state
                on_progress(_line(day, task))
        return run.finished

    _wait(ended, RUN_TAKES_AT_MOST_S, f"the run of {day} has not ended")
    run = _run_of(api, dag, day)
    failed = [t for t in api.tasks(dag, run.run_id) if t.state == "failed"]
    return TrainedDay(
        day=day,
        run_id=run.run_id,
        state=run.state,
        seconds=time.monotonic() - begun,
        report=api.result(dag, run.run_id, RESULT_TASK),
        failures={t.name: api.failure(dag, run.run_id, t) for t in failed},
    )


def _require_active(api: AirflowApi, dag: str) -> None:
    """Nothing starts while a DAG is paused, so waiting for it would be in vain."""
    if api.is_paused(dag):
        raise EventideError(
            f"the DAG {dag} is paused, so its runs do not start",
            hint="unpause it in the Airflow pages, then run the backfill again",
        )


def _run_of(api: AirflowApi, dag: str, day: date) -> DagRun:
    return api.runs(dag, first=day, last=day)[-1]


def _line(day: date, task: TaskRun) -> str:
    took = f" {task.duration_s:.1f} s" if task.duration_s and task.state == "success" else ""
    return f"{day} {task.name}: {task.state}{took}"


def _wait(condition: Callable[[], bool], limit_s: float, complaint: str) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise EventideError(
                f"{complaint} within {limit_s:.0f} s",
                hint="see `eventide logs dag-processor` and the Airflow pages",
            )
        time.sleep(0.5)

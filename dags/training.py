"""Daily training: one DAG for each project in `ml/projects`, named `train_<project>`.

The run of day D belongs to the interval that ends on D at the project's cut-off hour, and takes
that as its 'now'. To train past days, create a backfill (`eventide backfill`). A run that is
started by hand takes the day of its logical date, or the parameter `day`; where a project has a
last day, Airflow gives tasks only to runs with a logical date before it, or with none. A day that
is trained again changes nothing.

The work is in `ml.steps`; its table of steps says which tasks there are. Each task runs one step
and hands a small record on.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from datetime import date, timedelta
from itertools import groupby
from typing import Any

import pendulum
from airflow.sdk import (
    Asset,
    CronDataIntervalTimetable,
    ExceptionRetryPolicy,
    Param,
    RetryAction,
    RetryRule,
    TaskGroup,
    TriggerRule,
    dag,
    result,
    task,
)

from ml.bootstrap import Trainer, set_switches
from ml.errors import (
    BundleRefused,
    DataContractBroken,
    InvalidProject,
    StepHeld,
    UnsupportedPipeline,
)
from ml.orchestration import run_serialized
from ml.project import ModelProject
from ml.projects import projects
from ml.steps.table import STEPS, Step

set_switches(os.environ)

RETRIES: dict[str, Any] = {
    "retries": 2,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=5),
    "execution_timeout": timedelta(minutes=30),
    "retry_policy": ExceptionRetryPolicy(
        rules=[
            RetryRule(exception=error, action=RetryAction.FAIL, reason="a retry cannot help")
            for error in (BundleRefused, DataContractBroken, InvalidProject, UnsupportedPipeline)
        ]
    ),
}


def training_dag(project: ModelProject) -> Any:
    """The DAG of one project."""

    @dag(
        dag_id=f"train_{project.name}",
        schedule=_daily(project),
        start_date=_midnight(project.first_day),
        end_date=_midnight(project.last_day) if project.last_day else None,
        is_paused_upon_creation=False,  # a backfill's runs wait for ever while the DAG is paused
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=timedelta(hours=2),
        tags=["training", project.domain],
        doc_md=__doc__,
        params={"day": Param(None, type=["null", "string"], format="date")},
        default_args={**RETRIES, "owner": project.owner},
    )
    def training() -> None:
        records: dict[str, Any] = {"day": window()}
        before = records["day"]
        for group, steps in groupby(STEPS, key=lambda step: step.group):
            with TaskGroup(group) if group else nullcontext():
                for step in steps:
                    records[step.gives] = _task(step, project, records)
                    before >> records[step.gives]
                    before = records[step.gives]
        keep_current(records["verdict"]) >> records["outcome"]

    return training()


@task(retries=0)
def window(params: Any = None, dag_run: Any = None) -> str:
    """The day: the parameter, else the end of the run's interval, else the day it was started."""
    return str(params["day"] or (dag_run.data_interval_end or dag_run.run_after).date())


@task
def run_step(
    project: str,
    step: str,
    records: dict[str, Any],
    learner: str | None = None,
    outlet_events: Any = None,
) -> Any:
    """Run one step of the table. A step after the end of a run is skipped."""
    from airflow.sdk.exceptions import AirflowSkipException

    from infra.settings import load_settings

    trainer = Trainer.of(project, load_settings())
    try:
        done = run_serialized(trainer, step, {**records, "learner": learner})
    except StepHeld as held:
        raise AirflowSkipException(str(held)) from None
    for line in done.log_lines:
        print(line)  # noqa: T201
    if done.announcement:
        outlet_events[_asset(project)].extra.update(done.announcement)
    return done.record


@task
def keep_current(verdict: dict[str, Any]) -> list[str]:
    """The reasons why the champion stays."""
    from airflow.sdk.exceptions import AirflowSkipException

    if verdict["accepted"]:
        raise AirflowSkipException("the candidate was accepted")
    reasons: list[str] = verdict["reasons"]
    return reasons


def _task(step: Step, project: ModelProject, records: dict[str, Any]) -> Any:
    """The task of a step; what it needs comes from the tasks before it."""
    options: dict[str, Any] = {"task_id": step.name, "doc_md": step.meaning}
    if step.pool:
        options["pool"] = step.pool
    if step.announces:
        options["outlets"] = [_asset(project.name)]
    if step.reports:
        options["trigger_rule"] = TriggerRule.NONE_FAILED
    if step.for_each_learner:
        options["map_index_template"] = "{{ task.op_kwargs['learner'] }}"
    step_task = run_step.override(**options)
    given: dict[str, Any] = {
        "project": project.name,
        "step": step.name,
        "records": {name: records[name] for name in step.needs if name in records},
    }
    if step.for_each_learner:
        learners = [learner.name for learner in project.learners]
        return step_task.partial(**given).expand(learner=learners)
    return (result(step_task) if step.reports else step_task)(**given)


def _asset(project: str) -> Asset:
    return Asset(f"model-{project}")


def _midnight(day: date) -> pendulum.DateTime:
    return pendulum.datetime(day.year, day.month, day.day)


def _daily(project: ModelProject) -> CronDataIntervalTimetable:
    minutes = int(project.cutoff.total_seconds()) // 60
    return CronDataIntervalTimetable(f"{minutes % 60} {minutes // 60} * * *", timezone="UTC")


for _project in projects():
    globals()[f"train_{_project.name}"] = training_dag(_project)

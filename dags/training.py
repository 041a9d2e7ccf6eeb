"""Daily training: one DAG for each project in `ml/projects`, named `train_<project>`.

The run of day D belongs to the interval that ends on D at the project's cut-off hour, and takes
that as its 'now'. To train past days, create a backfill (`eventide backfill`). A run that is
started by hand takes the day of its logical date, or the parameter `day`; where a project has a
last day, Airflow gives tasks only to runs with a logical date before it, or with none. A day that
is trained again changes nothing.

The work is in `ml.steps`. Each task does one of them and hands a small record on.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import pendulum
from airflow.sdk import (
    Asset,
    CronDataIntervalTimetable,
    ExceptionRetryPolicy,
    Metadata,
    Param,
    RetryAction,
    RetryRule,
    TriggerRule,
    dag,
    result,
    task,
    task_group,
)

from ml.bootstrap import set_switches
from ml.errors import BundleRefused, DataContractBroken, InvalidProject, UnsupportedPipeline
from ml.project import ModelProject
from ml.projects import projects
from ml.serialized_steps import Plain, SerializedSteps

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
        start_date=pendulum.datetime(*project.first_day.timetuple()[:3]),
        end_date=project.last_day and pendulum.datetime(*project.last_day.timetuple()[:3]),
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
        name = project.name
        learners = [learner.name for learner in project.learners]
        snapshot = extract(name, window())
        validation = validate(name, snapshot)
        fits = train.partial(project=name, snapshot=snapshot).expand(learner=learners)
        evaluation = evaluate(name, snapshot, validation, fits)
        kept = keep_current(name, snapshot, evaluation)

        @task_group
        def release() -> tuple[Any, Any]:
            registration = register(name, snapshot, evaluation)
            serve = promote.override(outlets=[Asset(f"model-{name}")])
            return registration, serve(name, snapshot, evaluation, registration)

        registration, promotion = release()
        validation >> fits
        gate(name, snapshot, evaluation) >> [kept, registration]
        kept >> report(name, snapshot, validation, evaluation, promotion)

    return training()


@task(retries=0)
def window(params: Any = None, dag_run: Any = None) -> str:
    """The day: the parameter, else the end of the run's interval, else the day it was started."""
    return str(params["day"] or (dag_run.data_interval_end or dag_run.run_after).date())


@task
def extract(project: str, day: str) -> Plain:
    """Read what was known at the cut-off and split it by time."""
    return _steps(project).extract(day)


@task
def validate(project: str, snapshot: Plain) -> Plain:
    """Hold it against the expectations. Too little data: all that follows is skipped."""
    from airflow.sdk.exceptions import AirflowSkipException

    if snapshot["held"]:
        raise AirflowSkipException("held: " + "; ".join(snapshot["held"]))
    return _steps(project).validate(snapshot)


@task(pool="training", map_index_template="{{ task.op_kwargs['learner'] }}")
def train(project: str, snapshot: Plain, learner: str) -> Plain:
    """Fit one learner."""
    return _steps(project).train(snapshot, learner)


@task
def evaluate(project: str, snapshot: Plain, validation: Plain, fits: Any) -> Plain:
    """Judge all of them and the champion on the same later decisions."""
    return _steps(project).evaluate(snapshot, validation, fits)


@task.branch(retries=0)
def gate(project: str, snapshot: Plain, evaluation: Plain) -> str:
    """To `release` when every gate passes."""
    verdict = _steps(project).decide(snapshot, evaluation)
    for check in verdict["checks"]:
        print("passed" if check["passed"] else "HELD  ", check["text"])  # noqa: T201
    return "release.register" if verdict["accepted"] else "keep_current"


@task
def keep_current(project: str, snapshot: Plain, evaluation: Plain) -> list[str]:
    """Nothing to do but to say why."""
    reasons: list[str] = _steps(project).decide(snapshot, evaluation)["reasons"]
    return reasons


@task(pool="promotion")
def register(project: str, snapshot: Plain, evaluation: Plain) -> Plain:
    """Make it a version, and rehearse serving it."""
    return _steps(project).register(snapshot, evaluation)


@task(pool="promotion")
def promote(project: str, snapshot: Plain, evaluation: Plain, registration: Plain) -> Any:
    """Let it serve."""
    done = _steps(project).promote(snapshot, evaluation, registration)
    yield Metadata(Asset(f"model-{project}"), extra={"version": done["version"]})
    return done


@result
@task(trigger_rule=TriggerRule.NONE_FAILED)
def report(
    project: str,
    snapshot: Plain,
    validation: Plain | None,
    evaluation: Plain | None,
    promotion: Plain | None,
) -> Plain:
    """How the run ended, whatever way it took."""
    return _steps(project).outcome(
        snapshot, validation=validation, evaluation=evaluation, promotion=promotion
    )


def _steps(project: str) -> SerializedSteps:
    from infra.settings import load_settings

    return SerializedSteps(project, load_settings())


def _daily(project: ModelProject) -> CronDataIntervalTimetable:
    minutes = int(project.cutoff.total_seconds()) // 60
    return CronDataIntervalTimetable(f"{minutes % 60} {minutes // 60} * * *", timezone="UTC")


for _project in projects():
    globals()[f"train_{_project.name}"] = training_dag(_project)

"""What Airflow's REST API gives, as far as we read it."""

from datetime import datetime
from typing import Any

from msgspec import Struct


class Token(Struct, frozen=True):
    """A login."""

    access_token: str


class Dag(Struct, frozen=True):
    """A DAG that has been parsed."""

    is_paused: bool


class Planned(Struct, frozen=True):
    """How many runs a backfill would create."""

    total_entries: int


class Accepted(Struct, frozen=True):
    """A call was carried out; what it gives is not read."""


class Run(Struct, frozen=True):
    """A run of a DAG."""

    dag_run_id: str
    run_after: datetime
    state: str


class Runs(Struct, frozen=True):
    """A page of runs."""

    dag_runs: list[Run]
    total_entries: int

    @property
    def entries(self) -> list[Run]:
        """The runs of this page."""
        return self.dag_runs


class Task(Struct, frozen=True):
    """The last try of a task of a run."""

    task_id: str
    map_index: int
    try_number: int
    state: str | None
    duration: float | None
    rendered_map_index: str | None = None


class Tasks(Struct, frozen=True):
    """A page of tasks."""

    task_instances: list[Task]
    total_entries: int

    @property
    def entries(self) -> list[Task]:
        """The tasks of this page."""
        return self.task_instances


class Result(Struct, frozen=True):
    """What a task returned."""

    value: Any


class Problem(Struct, frozen=True):
    """One exception of a chain."""

    exc_type: str
    exc_value: str


class LogLine(Struct, frozen=True):
    """A line of a task's log."""

    error_detail: list[Problem] | None = None


class Log(Struct, frozen=True):
    """A task's log; Airflow gives plain texts where it has no structured lines."""

    content: list[LogLine | str]

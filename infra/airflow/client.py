"""Airflow over its REST API: backfills, their runs, and the log of a task that failed.

The command line of Airflow takes seconds to import on each call; this takes milliseconds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any, Protocol, TypeVar

import httpx

from infra.airflow import answers
from infra.errors import EventideError
from infra.http_client import UnexpectedAnswer, content_of, http_client

TIMEOUT_S = 30.0
PAGE = 100  # Airflow gives no more at once
FINISHED = frozenset({"success", "failed"})

Answer = TypeVar("Answer")
Entry_co = TypeVar("Entry_co", covariant=True)


class Page(Protocol[Entry_co]):
    """A part of a list, and the length of the whole."""

    @property
    def entries(self) -> Sequence[Entry_co]: ...

    @property
    def total_entries(self) -> int: ...


class AirflowUnavailable(EventideError):
    """Airflow did not respond, or refused the call."""

    hint = "is it running? see `eventide status` and `eventide logs api-server`"


@dataclass(frozen=True, kw_only=True)
class DagRun:
    """A run of a DAG. `day` is the day whose 'now' the run takes: the end of its interval."""

    run_id: str
    day: date
    state: str

    @property
    def finished(self) -> bool:
        """Whether it has ended."""
        return self.state in FINISHED


@dataclass(frozen=True, kw_only=True)
class TaskRun:
    """One try of one task; `label` names the mapped copy, where there are several."""

    task_id: str
    map_index: int
    label: str
    state: str
    try_number: int
    duration_s: float | None

    @property
    def name(self) -> str:
        """`train[forest]`, or only the task's id."""
        return f"{self.task_id}[{self.label}]" if self.label else self.task_id

    @property
    def is_named(self) -> bool:
        """False for a mapped copy that has not begun: Airflow labels it by its number till then."""
        return self.label != str(self.map_index)


class AirflowApi:
    """A session with one Airflow. Logs in at the first call."""

    def __init__(self, url: str, *, username: str, password: str) -> None:
        self._client = http_client(url, timeout_s=TIMEOUT_S)
        self._login = {"username": username, "password": password}

    def has_dag(self, dag_id: str) -> bool:
        """Whether the DAG has been parsed; a new file takes up to half a minute."""
        return self._dag(dag_id) is not None

    def is_paused(self, dag_id: str) -> bool:
        """Whether the DAG's runs wait until somebody unpauses it."""
        dag = self._dag(dag_id)
        return dag is not None and dag.is_paused

    def backfill(self, dag_id: str, *, first: date, last: date, again: bool = False) -> None:
        """Create the runs of the days `first` to `last`, one after the other; existing runs stay.

        With `again` failed runs are repeated.
        """
        # A daily run belongs to the interval that ends on its day: its logical date is a day less.
        body = {
            "dag_id": dag_id,
            "from_date": _utc(first - timedelta(days=1)).isoformat(),
            "to_date": (_utc(last) - timedelta(microseconds=1)).isoformat(),
            "max_active_runs": 1,
            "reprocess_behavior": "failed" if again else "none",
        }
        planned = self._call("POST", "/api/v2/backfills/dry_run", answers.Planned, json=body)
        if planned.total_entries:
            self._call("POST", "/api/v2/backfills", answers.Accepted, json=body)

    def runs(self, dag_id: str, *, first: date, last: date) -> list[DagRun]:
        """The runs of those days, by day."""
        runs = self._pages(
            f"/api/v2/dags/{dag_id}/dagRuns",
            answers.Runs,
            params={
                "run_after_gte": _utc(first).isoformat(),
                "run_after_lt": _utc(last + timedelta(days=1)).isoformat(),
                "order_by": "run_after",
            },
        )
        return [
            DagRun(
                run_id=run.dag_run_id,
                day=run.run_after.astimezone(UTC).date(),
                state=run.state,
            )
            for run in runs
        ]

    def tasks(self, dag_id: str, run_id: str) -> list[TaskRun]:
        """The tasks of a run."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        return [
            TaskRun(
                task_id=task.task_id,
                map_index=task.map_index,
                label=task.rendered_map_index or "",
                state=task.state or "waiting",
                try_number=task.try_number,
                duration_s=task.duration,
            )
            for task in self._pages(path, answers.Tasks)
        ]

    def result(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """What a task returned; None when it returned nothing."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries"
        answer = self._find("GET", f"{path}/return_value", answers.Result)
        return answer.value if answer else None

    def failure(self, dag_id: str, run_id: str, task: TaskRun) -> str:
        """The last error in the log of a task's last try: its type and sentence."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task.task_id}/logs"
        log = self._find(
            "GET",
            f"{path}/{task.try_number}",
            answers.Log,
            params={"full_content": True, "map_index": task.map_index},
            headers={"accept": "application/json"},
        )
        errors = [
            f"{problem.exc_type}: {problem.exc_value}"
            for line in (log.content if log else ())
            for problem in (line.error_detail or () if isinstance(line, answers.LogLine) else ())
        ]
        return errors[-1] if errors else "see its log in the Airflow pages"

    def _dag(self, dag_id: str) -> answers.Dag | None:
        return self._find("GET", f"/api/v2/dags/{dag_id}", answers.Dag)

    def _pages(
        self, path: str, kind: type[Page[Entry_co]], *, params: Mapping[str, Any] | None = None
    ) -> Iterator[Entry_co]:
        """The entries of a list, which Airflow gives in pages."""
        offset = 0
        while True:
            page = self._call(
                "GET", path, kind, params={**(params or {}), "limit": PAGE, "offset": offset}
            )
            yield from page.entries
            offset += len(page.entries)
            if not page.entries or offset >= page.total_entries:
                return

    def _find(self, method: str, path: str, kind: type[Answer], **more: Any) -> Answer | None:
        """The content of the response; None where Airflow has no such thing."""
        response = self._request(method, path, **more)
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        return self._content(response, kind)

    def _call(self, method: str, path: str, kind: type[Answer], **more: Any) -> Answer:
        return self._content(self._request(method, path, **more), kind)

    def _request(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            if "authorization" not in self._client.headers:
                self._log_in()
            request = partial(self._client.request, method, path, **more)
            response = request()
            if response.status_code == httpx.codes.UNAUTHORIZED:  # a login ends after a day
                self._log_in()
                response = request()
        except httpx.HTTPError as error:
            raise AirflowUnavailable(f"Airflow at {self._client.base_url}: {error}") from error
        return response

    def _content(self, response: httpx.Response, kind: type[Answer]) -> Answer:
        """What Airflow answered.

        Raises:
            AirflowUnavailable: a refusal, or something else answers in Airflow's place.
        """
        call = f"{response.request.method} {response.request.url.path}"
        if not response.is_success:
            raise AirflowUnavailable(
                f"{call}: {response.status_code} {response.text[:300]}",
                hint=self._hint(response.status_code),
            )
        try:
            return content_of(response, kind)
        except UnexpectedAnswer as error:
            raise AirflowUnavailable(
                f"{call}: this is no answer of Airflow: {error}",
                hint="does EVENTIDE_AIRFLOW_URL name Airflow, and not a proxy or a login page?",
            ) from error

    def _hint(self, status: int) -> str | None:
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            return f"Airflow does not let {self._login['username']!r} do this: see its role"
        if status == httpx.codes.CONFLICT:
            return "another backfill of it runs, or ended a moment ago: try again when it is done"
        return None

    def _log_in(self) -> None:
        response = self._client.post("/auth/token", json=self._login)
        if response.is_client_error:
            raise AirflowUnavailable(
                f"Airflow refused the login of {self._login['username']!r}",
                hint="the local stack's login is in secrets/airflow_login.json of the state folder",
            )
        token = self._content(response, answers.Token).access_token
        self._client.headers["authorization"] = f"Bearer {token}"


def _utc(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)

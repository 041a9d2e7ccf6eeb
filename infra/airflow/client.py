"""Airflow over its REST API: backfills, their runs, and the log of a task that failed.

The command line of Airflow takes seconds to import on each call; this takes milliseconds.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any

import httpx

from infra.errors import EventideError
from infra.http_client import http_client

TIMEOUT_S = 30.0
PAGE = 100  # Airflow gives no more at once
FINISHED = frozenset({"success", "failed"})


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


class AirflowApi:
    """A session with one Airflow. Logs in at the first call."""

    def __init__(self, url: str, *, username: str, password: str) -> None:
        self._client = http_client(url, timeout_s=TIMEOUT_S)
        self._login = {"username": username, "password": password}

    def has_dag(self, dag_id: str) -> bool:
        """Whether the DAG has been parsed; a new file takes up to half a minute."""
        return self._call("GET", f"/api/v2/dags/{dag_id}", missing_ok=True) is not None

    def is_paused(self, dag_id: str) -> bool:
        """Whether the DAG's runs wait until somebody unpauses it."""
        dag = self._call("GET", f"/api/v2/dags/{dag_id}", missing_ok=True) or {}
        return bool(dag.get("is_paused"))

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
        planned = self._call("POST", "/api/v2/backfills/dry_run", json=body)
        if planned and planned["total_entries"]:
            self._call("POST", "/api/v2/backfills", json=body)

    def runs(self, dag_id: str, *, first: date, last: date) -> list[DagRun]:
        """The runs of those days, by day."""
        runs = self._pages(
            f"/api/v2/dags/{dag_id}/dagRuns",
            "dag_runs",
            params={
                "run_after_gte": _utc(first).isoformat(),
                "run_after_lt": _utc(last + timedelta(days=1)).isoformat(),
                "order_by": "run_after",
            },
        )
        return [
            DagRun(
                run_id=run["dag_run_id"],
                day=datetime.fromisoformat(run["run_after"]).astimezone(UTC).date(),
                state=run["state"],
            )
            for run in runs
        ]

    def tasks(self, dag_id: str, run_id: str) -> list[TaskRun]:
        """The tasks of a run."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        return [
            TaskRun(
                task_id=task["task_id"],
                map_index=task["map_index"],
                label=task.get("rendered_map_index") or "",
                state=task["state"] or "waiting",
                try_number=task["try_number"],
                duration_s=task["duration"],
            )
            for task in self._pages(path, "task_instances")
        ]

    def result(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """What a task returned; None when it returned nothing."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries"
        response = self._call("GET", f"{path}/return_value", missing_ok=True)
        return response["value"] if response else None

    def failure(self, dag_id: str, run_id: str, task: TaskRun) -> str:
        """The last error in the log of a task's last try: its type and sentence."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task.task_id}/logs"
        response = self._call(
            "GET",
            f"{path}/{task.try_number}",
            params={"full_content": True, "map_index": task.map_index},
            headers={"accept": "application/json"},
            missing_ok=True,
        )
        errors = [
            f"{detail['exc_type']}: {detail['exc_value']}"
            for line in (response or {}).get("content", [])
            for detail in (line.get("error_detail") or [] if isinstance(line, dict) else [])
        ]
        return errors[-1] if errors else "see its log in the Airflow pages"

    def _pages(
        self, path: str, key: str, *, params: Mapping[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """The entries of a list, which Airflow gives in pages."""
        offset = 0
        while True:
            page = {**(params or {}), "limit": PAGE, "offset": offset}
            response = self._call("GET", path, params=page) or {}
            yield from response.get(key, [])
            offset += len(response.get(key, []))
            if not response.get(key) or offset >= response.get("total_entries", 0):
                return

    def _call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        missing_ok: bool = False,
    ) -> dict[str, Any] | None:
        try:
            if "authorization" not in self._client.headers:
                self._log_in()
            request = partial(
                self._client.request, method, path, params=params, json=json, headers=headers
            )
            response = request()
            if response.status_code == httpx.codes.UNAUTHORIZED:  # a login ends after a day
                self._log_in()
                response = request()
        except httpx.HTTPError as error:
            raise AirflowUnavailable(f"Airflow at {self._client.base_url}: {error}") from error
        if response.status_code == httpx.codes.NOT_FOUND and missing_ok:
            return None
        if response.is_error:
            raise AirflowUnavailable(
                f"{method} {path}: {response.status_code} {response.text[:300]}",
                hint=self._hint(response.status_code),
            )
        content: dict[str, Any] = response.json()
        return content

    def _hint(self, status: int) -> str | None:
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            return f"Airflow does not let {self._login['username']!r} do this: see its role"
        return None

    def _log_in(self) -> None:
        response = self._client.post("/auth/token", json=self._login)
        if response.is_error:
            raise AirflowUnavailable(
                f"Airflow refused the login of {self._login['username']!r}",
                hint="the local stack's login is in secrets/airflow_login.json of the state folder",
            )
        self._client.headers["authorization"] = f"Bearer {response.json()['access_token']}"


def _utc(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)

"""A backfill over the REST API of Airflow: pages, paused DAGs, logins that have ended."""

import json
from collections.abc import Iterator
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from infra.airflow.client import AirflowApi, AirflowUnavailable, DagRun
from infra.errors import EventideError
from ml.backfill import _watch, backfill

FIRST = date(2013, 1, 1)
DAYS = 201  # three pages


class Airflow(BaseHTTPRequestHandler):
    """The few answers that a backfill needs; lists come in pages of at most 100."""

    paused: ClassVar[bool] = False
    refuses: ClassVar[int] = 0  # so many calls are answered 401
    forbids: ClassVar[bool] = False
    runs: ClassVar[list[dict[str, Any]]] = []
    tasks: ClassVar[list[list[dict[str, Any]]]] = []  # at one call after the other
    url: ClassVar[str] = ""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/auth/token":
            self._answer(200, {"access_token": "token"})
        elif self.path.endswith("dry_run"):
            self._answer(200, {"total_entries": DAYS})
        else:
            assert json.loads(body)["dag_id"] == "train_flights"
            type(self).runs = [_run(FIRST + timedelta(days=n)) for n in range(DAYS)]
            self._answer(200, {})

    def do_GET(self) -> None:
        cls = type(self)
        if cls.refuses or cls.forbids:
            cls.refuses = max(cls.refuses - 1, 0)
            self._answer(403 if cls.forbids else 401, {"detail": "no"})
            return
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        if path.endswith("/dagRuns"):
            low, high = query["run_after_gte"][0], query["run_after_lt"][0]
            chosen = [r for r in cls.runs if low <= r["run_after"] < high]
            self._page("dag_runs", chosen, query)
        elif path.endswith("/taskInstances"):
            self._page("task_instances", cls.tasks.pop(0) if cls.tasks else [], query)
        elif path.endswith("/return_value"):
            self._answer(200, {"value": {"decision": "held"}})
        else:
            self._answer(200, {"is_paused": cls.paused})

    def _page(self, key: str, entries: list[Any], query: dict[str, list[str]]) -> None:
        offset, limit = int(query["offset"][0]), min(100, int(query["limit"][0]))
        self._answer(200, {key: entries[offset : offset + limit], "total_entries": len(entries)})

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def _run(day: date) -> dict[str, Any]:
    return {"dag_run_id": f"run {day}", "run_after": f"{day}T09:00:00+00:00", "state": "success"}


@pytest.fixture
def airflow() -> Iterator[type[Airflow]]:
    class OwnAirflow(Airflow):
        runs: ClassVar[list[dict[str, Any]]] = []
        tasks: ClassVar[list[list[dict[str, Any]]]] = []

    server = ThreadingHTTPServer(("127.0.0.1", 0), OwnAirflow)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    OwnAirflow.url = f"http://127.0.0.1:{server.server_port}"
    yield OwnAirflow
    server.shutdown()
    thread.join()
    server.server_close()


def api_of(airflow: type[Airflow]) -> AirflowApi:
    return AirflowApi(airflow.url, username="who", password="secret")


def run(airflow: type[Airflow], *, days: int = DAYS) -> list[Any]:
    last = FIRST + timedelta(days=days - 1)
    return backfill(api_of(airflow), "flights", first=FIRST, last=last, on_progress=lambda _: None)


@pytest.mark.slow
def test_a_backfill_of_more_days_than_a_page_holds_ends(airflow: type[Airflow]) -> None:
    days = run(airflow)
    assert [d.day for d in days] == [FIRST + timedelta(days=n) for n in range(DAYS)]
    assert {d.state for d in days} == {"success"}


def test_a_paused_dag_is_reported_at_once(airflow: type[Airflow]) -> None:
    airflow.paused = True
    with pytest.raises(EventideError, match="train_flights is paused") as caught:
        run(airflow)
    assert "unpause" in (caught.value.hint or "")


def test_a_login_that_has_ended_is_renewed(airflow: type[Airflow]) -> None:
    airflow.refuses = 1
    assert not api_of(airflow).is_paused("train_flights")


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_says_its_status_and_whose_login_it_is(
    airflow: type[Airflow], status: int
) -> None:
    airflow.refuses, airflow.forbids = 9, status == 403
    with pytest.raises(AirflowUnavailable, match=str(status)) as caught:
        api_of(airflow).is_paused("train_flights")
    assert "'who'" in (caught.value.hint or "")


def test_a_mapped_task_is_reported_by_its_name_and_each_state_once(
    airflow: type[Airflow], monkeypatch: pytest.MonkeyPatch
) -> None:
    def tasks(*labels_and_states: tuple[str, str]) -> list[dict[str, Any]]:
        return [
            {
                "task_id": "train",
                "map_index": n,
                "rendered_map_index": label,
                "state": state,
                "try_number": 1,
                "duration": 2.0,
            }
            for n, (label, state) in enumerate(labels_and_states)
        ]

    steps = iter(["queued", "running", "running", "success"])
    airflow.tasks = [
        tasks(("0", "queued"), ("1", "running")),
        tasks(("trees", "running"), ("1", "running")),
        tasks(("trees", "running"), ("1", "failed")),
        tasks(("trees", "success"), ("1", "failed")),
    ]
    api, lines = api_of(airflow), list[str]()
    day = FIRST

    def runs(_: str, *, first: date, last: date) -> list[DagRun]:
        return [DagRun(run_id="r", day=first, state=next(steps, "success"))]

    monkeypatch.setattr(api, "runs", runs)
    _watch(api, "train_flights", day, on_progress=lines.append)
    assert lines == [
        f"{day} train[trees]: running",
        f"{day} train[1]: failed",
        f"{day} train[trees]: success 2.0 s",
    ]

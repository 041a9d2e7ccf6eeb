"""Whatever answers at Airflow's address, a command ends with one sentence."""

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from infra.airflow.client import AirflowApi, AirflowUnavailable, TaskRun
from tests.support.strange_answers import STRANGE_ANSWERS, a_server

DAY = date(2013, 1, 1)
TASK = TaskRun(task_id="t", map_index=-1, label="", state="failed", try_number=1, duration_s=None)
CALLS: dict[str, Callable[[AirflowApi], Any]] = {
    "has_dag": lambda api: api.has_dag("d"),
    "is_paused": lambda api: api.is_paused("d"),
    "backfill": lambda api: api.backfill("d", first=DAY, last=DAY),
    "runs": lambda api: api.runs("d", first=DAY, last=DAY),
    "tasks": lambda api: api.tasks("d", "r"),
    "result": lambda api: api.result("d", "r", "t"),
    "failure": lambda api: api.failure("d", "r", TASK),
}
SHAPES = {
    "a list that is none": b'{"dag_runs": 7, "task_instances": 7, "total_entries": 1,'
    b' "content": 7}',
    "a list of numbers": b'{"dag_runs": [7], "task_instances": [7], "total_entries": 1,'
    b' "content": [7]}',
    "entries without fields": b'{"dag_runs": [{}], "task_instances": [{}], "total_entries": 1,'
    b' "content": [{"error_detail": [{}]}]}',
    "no length": b'{"dag_runs": [], "task_instances": [], "content": null}',
    "null for a length": b'{"dag_runs": [], "task_instances": [], "total_entries": null,'
    b' "content": {}}',
}


def api_of(url: str, *, logged_in: bool) -> AirflowApi:
    api = AirflowApi(url, username="who", password="secret")
    if logged_in:
        api._client.headers["authorization"] = "Bearer token"
    return api


@pytest.mark.parametrize("name", STRANGE_ANSWERS)
@pytest.mark.parametrize("logged_in", [False, True])
def test_an_answer_of_another_shape_is_no_answer(name: str, logged_in: bool) -> None:
    status, body = STRANGE_ANSWERS[name]
    with a_server(status, body) as url:
        api = api_of(url, logged_in=logged_in)
        for call, ask in CALLS.items():
            if (
                status == 404
                and logged_in
                and call in ("has_dag", "is_paused", "result", "failure")
            ):
                continue  # Airflow says so that it has no such thing
            with pytest.raises(AirflowUnavailable):
                ask(api)


@pytest.mark.parametrize("name", SHAPES)
def test_parts_of_another_shape_are_no_answer(name: str) -> None:
    with a_server(200, SHAPES[name]) as url:
        api = api_of(url, logged_in=True)
        for call in CALLS.keys() - {"backfill"}:
            with pytest.raises(AirflowUnavailable, match="no answer of Airflow"):
                CALLS[call](api)


def test_a_log_without_structured_lines_has_no_error_to_tell() -> None:
    with a_server(200, b'{"content": ["a text", {"event": "e"}]}') as url:
        assert "see its log" in api_of(url, logged_in=True).failure("d", "r", TASK)


def test_the_last_error_of_a_log_is_told() -> None:
    body = b'{"content": [{"error_detail": [{"exc_type": "A", "exc_value": "first"},'
    body += b' {"exc_type": "B", "exc_value": "last"}]}, {"error_detail": null}]}'
    with a_server(200, body) as url:
        assert api_of(url, logged_in=True).failure("d", "r", TASK) == "B: last"


def test_a_second_backfill_at_once_is_told_to_wait_for_the_first() -> None:
    with (
        a_server(409, b'{"detail": "There is already a running backfill"}') as url,
        pytest.raises(AirflowUnavailable, match="already a running backfill") as refused,
    ):
        api_of(url, logged_in=True).backfill("d", first=DAY, last=DAY)
    assert "try again when it is done" in str(refused.value.hint)

"""Who may ask MLflow, and where its artifacts may lie."""

import asyncio
import base64
import re
from collections.abc import Mapping
from typing import Any

import pytest

from infra.local_stack.services.mlflow_guard import SOURCES, Guard, check_location

HOST = "127.0.0.1:5000"
PATHS = ["/", "/api/2.0/mlflow/experiments/search", "/ajax-api/2.0/mlflow/runs/get", "/graphql"]


async def _mlflow(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"experiments"})


GUARD = Guard(_mlflow, username="admin", password="hush: ä", hosts=[HOST, "localhost:5000"])


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


LOGIN = {"host": HOST, "authorization": basic("admin:hush: ä")}


def asked(path: str, headers: Mapping[str, str], *, kind: str = "http") -> list[Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    raw = [(name.encode(), value.encode("latin-1", "ignore")) for name, value in headers.items()]
    asyncio.run(GUARD({"type": kind, "path": path, "headers": raw}, receive, send))
    return sent


def status(path: str, headers: Mapping[str, str]) -> int:
    answer = asked(path, headers)
    passed = answer[-1]["body"] == b"experiments"
    assert passed == (answer[0]["status"] == 200)
    return int(answer[0]["status"])


@pytest.mark.parametrize("path", PATHS)
def test_who_knows_the_login_is_let_through(path: str) -> None:
    assert status(path, LOGIN) == 200
    assert (
        status(path, {**LOGIN, "host": "localhost:5000", "origin": "http://localhost:5000"}) == 200
    )


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Basic",
        "Basic %%%",
        "Bearer " + basic("admin:hush: ä")[6:],
        basic("admin:"),
        basic("admin:hush: a"),
        basic("root:hush: ä"),
        basic("admin:hush: ä\0"),
        basic(":"),
    ],
)
def test_without_the_login_nothing_is_answered_but_the_way_in(
    path: str, header: str | None
) -> None:
    headers = {"host": HOST} | ({} if header is None else {"authorization": header})
    answer = asked(path, headers)
    assert answer[0]["status"] == 401
    assert (b"www-authenticate", b'Basic realm="MLflow", charset="UTF-8"') in answer[0]["headers"]


def test_health_needs_no_login_but_the_right_host() -> None:
    assert status("/health", {"host": HOST}) == 200
    assert status("/health", {"host": "evil.example:5000"}) == 403
    assert status("/health/../api", {"host": HOST}) == 401


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "127.0.0.1", "127.0.0.1:5001", "evil.example:5000", "10.0.0.1:5000"],
)
def test_a_name_that_was_made_to_point_here_gets_nothing(host: str) -> None:
    assert status("/", {**LOGIN, "host": host}) == 403


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "http://127.0.0.1:3000", "http://localhost:5000", "null", "http://"],
)
def test_a_page_of_another_origin_gets_nothing_even_with_the_login(origin: str) -> None:
    assert status("/api/2.0/mlflow/runs/create", {**LOGIN, "origin": origin}) == 403


def test_a_socket_of_the_web_needs_the_login_too() -> None:
    assert asked("/", {"host": HOST}, kind="websocket") == [
        {"type": "websocket.close", "code": 1008}
    ]


@pytest.mark.parametrize("place", [None, "", "mlflow-artifacts:/", "mlflow-artifacts:/a/b"])
def test_artifacts_may_lie_behind_the_server(place: str | None) -> None:
    check_location(place)


HOSTILE = [
    "file:///home/operator/eventide/dags",
    "FILE:/x",
    "/home/operator/eventide/dags",
    "dags",
    ".",
    "s3://bucket",
    "mlflow-artifacts://other.example/x",
    "mlflow-artifacts:///x",
    "mlflow-artifacts:/../../dags",
    "mlflow-artifacts:/a/../../dags",
    "MLFLOW-ARTIFACTS:/a",
    "http://evil.example",
    "runs:/1/a",
    " mlflow-artifacts:/",
]


@pytest.mark.parametrize("place", HOSTILE)
def test_artifacts_may_lie_nowhere_else(place: str) -> None:
    with pytest.raises(ValueError, match="artifacts of this server"):
        check_location(place)


@pytest.mark.parametrize("source", ["mlflow-artifacts:/1/r/artifacts", "runs:/r/m", "models:/m-1"])
def test_a_version_may_come_from_a_run_or_a_model(source: str) -> None:
    assert re.search(SOURCES, source)


@pytest.mark.parametrize("source", [p for p in HOSTILE if ".." not in p and "runs:" not in p])
def test_a_version_may_come_from_nowhere_else(source: str) -> None:
    assert not re.search(SOURCES, source)

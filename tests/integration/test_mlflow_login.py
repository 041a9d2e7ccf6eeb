"""What another user of the machine, or a page in its browser, gets from a real MLflow: nothing."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.servers import MLFLOW_LOGIN, MLFLOW_NAME

API = "/api/2.0/mlflow"
EVERY_KIND = [
    ("GET", "/"),
    ("GET", "/version"),
    ("POST", f"{API}/experiments/search"),
    ("POST", "/ajax-api/2.0/mlflow/experiments/create"),
    ("POST", "/graphql"),
    ("PUT", "/api/2.0/mlflow-artifacts/artifacts/x/y.txt"),
    ("GET", "/api/2.0/mlflow-artifacts/artifacts"),
    ("POST", "/v1/traces"),
    ("GET", "/ajax-api/3.0/mlflow/assistant/sessions"),
    ("GET", "/gateway/x/mlflow/invocations"),
]


@pytest.mark.parametrize(("method", "path"), EVERY_KIND)
def test_without_the_login_nothing_is_read_or_written(
    mlflow_url: str, method: str, path: str
) -> None:
    body = {"name": "planted", "artifact_location": "file:///tmp"} if method == "POST" else None
    assert httpx.request(method, mlflow_url + path, json=body).status_code == 401
    guess = httpx.request(method, mlflow_url + path, json=body, auth=("admin", "password"))
    assert guess.status_code == 401


@pytest.mark.parametrize(("method", "path"), [*EVERY_KIND, ("GET", "/health")])
def test_a_page_whose_name_was_made_to_point_here_gets_nothing(
    mlflow_url: str, method: str, path: str
) -> None:
    headers = {"host": "10.evil.example"}
    answer = httpx.request(method, mlflow_url + path, headers=headers, auth=MLFLOW_LOGIN)
    assert answer.status_code == 403


def test_the_name_that_other_containers_know_it_by_is_accepted(mlflow_url: str) -> None:
    answer = httpx.get(
        f"{mlflow_url}{API}/experiments/search?max_results=1",
        headers={"host": MLFLOW_NAME},
        auth=MLFLOW_LOGIN,
    )
    assert answer.status_code == 200


def test_a_page_on_another_port_of_this_machine_gets_nothing(mlflow_url: str) -> None:
    headers = {"origin": "http://127.0.0.1:3000"}
    created = httpx.post(
        f"{mlflow_url}{API}/experiments/create",
        headers=headers,
        auth=MLFLOW_LOGIN,
        json={"name": uuid.uuid4().hex},
    )
    assert created.status_code == 403


@pytest.fixture
def api(mlflow_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{mlflow_url}{API}", auth=MLFLOW_LOGIN, timeout=60) as client:
        yield client


@pytest.mark.parametrize(
    "form", ["file://{}", "file:{}", "{}", "mlflow-artifacts:/../..{}", "dags"]
)
@pytest.mark.parametrize("field", ["artifact_location", "artifactLocation"])
def test_not_even_the_operator_can_make_artifacts_lie_in_another_folder(
    api: httpx.Client, tmp_path: Path, form: str, field: str
) -> None:
    """The folder of the DAG files, say: what is uploaded there is run."""
    name = uuid.uuid4().hex
    answer = api.post("/experiments/create", json={"name": name, field: form.format(tmp_path)})
    assert answer.status_code == 400
    answer = api.get("/experiments/get-by-name", params={"experiment_name": name})
    assert answer.status_code == 404


@pytest.mark.parametrize("source", ["file:///etc", "/etc", "mlflow-artifacts://elsewhere/x"])
def test_a_version_cannot_come_from_a_folder_of_the_server(api: httpx.Client, source: str) -> None:
    name = uuid.uuid4().hex
    api.post("/registered-models/create", json={"name": name}).raise_for_status()
    answer = api.post("/model-versions/create", json={"name": name, "source": source})
    assert answer.status_code == 400

"""What the services get of the operator's environment."""

import os
from pathlib import Path

import pytest

from infra.local_stack import definition
from infra.local_stack.environment import inherited, stack_environment, unusable_proxies
from infra.local_stack.service import Service
from infra.settings import Settings, StackSettings

SHELL = {
    "PATH": "/usr/bin",
    "AWS_SECRET_ACCESS_KEY": "planted",
    "GITHUB_TOKEN": "planted",
    "EVENTIDE_KAFKA__CLIENT": "planted",
    "EVENTIDE_STACK__POSTGRES": "planted",
    "EVENTIDE_AIRFLOW_PASSWORD": "planted",
    "MLFLOW_TRACKING_TOKEN": "planted",
    "AIRFLOW__CORE__PARALLELISM": "7",
    "LC_ALL": "tr_TR",
    "LANG": "C",
    "PYTHONPATH": "planted",
    "MY_OWN": "mine",
}
PORTS = {request.name: request.default for request in definition.port_requests(StackSettings())}


def got(tmp_path: Path, **stack: str) -> dict[str, dict[str, str]]:
    """The variables of each service."""
    env = stack_environment(SHELL, state=tmp_path)
    settings = Settings(state_dir=tmp_path, stack=StackSettings.model_validate(stack))
    return {
        service.name: {**inherited(env, service.inherits), **service.env}
        for service in definition.services(settings, PORTS)
    }


@pytest.mark.parametrize("name", ["kafka", "postgres", "mlflow"])
def test_a_server_gets_nothing_that_may_be_secret(tmp_path: Path, name: str) -> None:
    assert "planted" not in got(tmp_path)[name].values()


def test_only_what_reads_a_cloud_gets_its_keys(tmp_path: Path) -> None:
    holders = {n for n, env in got(tmp_path).items() if "AWS_SECRET_ACCESS_KEY" in env}
    airflow = {"airflow-setup", "api-server", "scheduler", "dag-processor", "triggerer"}
    assert holders == {"ingest", *airflow}


def test_our_own_processes_get_their_settings_and_not_those_of_the_stack(tmp_path: Path) -> None:
    for name, env in got(tmp_path).items():
        assert ("EVENTIDE_KAFKA__CLIENT" in env) == (name not in ("kafka", "postgres", "mlflow"))
        assert "EVENTIDE_STACK__POSTGRES" not in env
        assert "EVENTIDE_AIRFLOW_PASSWORD" not in env
        assert "GITHUB_TOKEN" not in env
        assert env.get("EVENTIDE_STATE_DIR", str(tmp_path)) == str(tmp_path)


def test_the_locale_of_the_shell_changes_no_server(tmp_path: Path) -> None:
    for env in got(tmp_path).values():
        assert env["LC_ALL"].endswith("UTF-8")
        assert env["TZ"] == "UTC"
        assert "LANG" not in env


def test_more_variables_are_passed_when_that_is_asked_for(tmp_path: Path) -> None:
    assert all("MY_OWN" not in env for env in got(tmp_path).values())
    assert all(env["MY_OWN"] == "mine" for env in got(tmp_path, environment="MY_*, X").values())
    assert got(tmp_path)["scheduler"]["AIRFLOW__CORE__PARALLELISM"] == "4"  # ours wins


def test_without_a_home_there_is_one(tmp_path: Path) -> None:
    assert stack_environment({}, state=tmp_path)["HOME"] == str(tmp_path)
    assert stack_environment({"HOME": "/home/a"}, state=tmp_path)["HOME"] == "/home/a"


def test_a_socks_proxy_is_not_passed_on_for_airflow_would_end(tmp_path: Path) -> None:
    shell = {"ALL_PROXY": "socks5://p:1", "http_proxy": "http://p:2"}
    assert unusable_proxies(shell) == ["ALL_PROXY"]
    env = inherited(stack_environment(shell, state=tmp_path), ("*_PROXY", "*_proxy"))
    assert "ALL_PROXY" not in env
    assert env["http_proxy"] == "http://p:2"
    assert "127.0.0.1" in env["NO_PROXY"]


def test_programs_of_this_environment_come_first(tmp_path: Path) -> None:
    first, second = stack_environment(SHELL, state=tmp_path)["PATH"].split(os.pathsep)
    assert Path(first, "eventide").exists()
    assert second == "/usr/bin"
    assert Service(name="x", command=("x",)).inherits == ()

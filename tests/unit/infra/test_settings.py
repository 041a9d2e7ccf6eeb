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


def test_the_stack_s_endpoints_are_found_in_the_state_folder(state: Path) -> None:
    _endpoints(state, kafka={"bootstrap_servers": "127.0.0.1:1234"})
    assert load_settings().kafka.bootstrap_servers == "127.0.0.1:1234"


def test_the_environment_wins_over_the_stack(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _endpoints(state, kafka={"bootstrap_servers": "127.0.0.1:1234"}, mlflow_url="http://a")
    monkeypatch.setenv("EVENTIDE_KAFKA__BOOTSTRAP_SERVERS", "broker:9092")
    settings = load_settings()
    assert settings.kafka.bootstrap_servers == "broker:9092"
    assert settings.mlflow_url == "http://a"


def test_folders_lie_in_the_state_folder_unless_they_are_set(
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


def test_an_online_store_of_another_kind_is_refused(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENTIDE_ONLINE_STORE", "s3://bucket")
    with pytest.raises(ValidationError, match="online_store"):
        load_settings()


def test_a_value_that_does_not_fit_names_its_field(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENTIDE_INGEST__FLUSH_ROWS", "0")
    with pytest.raises(ValidationError, match="flush_rows"):
        load_settings()


def test_settings_cannot_change_while_a_process_runs(state: Path) -> None:
    settings = load_settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.mlflow_url = "http://b"  # type: ignore[misc]

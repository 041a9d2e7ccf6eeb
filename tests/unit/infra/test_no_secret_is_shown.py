"""Planted secrets: no command shows one, in its output or its errors, right or mistyped."""

import json
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from infra import cli
from infra.logging import mask_event
from infra.masking import Address
from infra.settings import Settings

SECRET = "hunter2/with@every:thing"
IN_A_URL = quote(SECRET, safe="")
RIGHT = {
    "EVENTIDE_KAFKA__CLIENT": json.dumps(
        {"security.protocol": "sasl_ssl", "sasl.password": SECRET, "ssl.key.pem": SECRET}
    ),
    "EVENTIDE_ONLINE_STORE": f"redis://app:{SECRET}@127.0.0.1:9/0",
    "EVENTIDE_OFFLINE_STORE": f"s3://bucket/x?secret_access_key={SECRET}",
    "EVENTIDE_OFFLINE_OPTIONS": json.dumps({"AWS_SECRET_ACCESS_KEY": SECRET}),
    "EVENTIDE_STACK__POSTGRES": f"postgresql+psycopg2://u:{SECRET}@127.0.0.1:9",
    "EVENTIDE_STACK__MLFLOW": f"http://u:{IN_A_URL}@127.0.0.1:9",
    "EVENTIDE_MLFLOW_URL": f"http://u:{IN_A_URL}@127.0.0.1:9",
    "EVENTIDE_MLFLOW_PASSWORD": SECRET,
    "EVENTIDE_AIRFLOW_URL": "http://127.0.0.1:9",
    "EVENTIDE_AIRFLOW_USERNAME": "admin",
    "EVENTIDE_AIRFLOW_PASSWORD": SECRET,
    "EVENTIDE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9",
}
MISTYPED = {
    "EVENTIDE_KAFKA__CLIENT": [f'{{"sasl.password": "{SECRET}"', f'["{SECRET}"]', SECRET],
    "EVENTIDE_KAFKA": [f'{{"client": "{SECRET}"}}', f'{{"{SECRET}": 1'],
    "EVENTIDE_ONLINE_STORE": [f"reids://:{SECRET}@h", f"redis:/:{SECRET}@h", f"x://{SECRET}@h"],
    "EVENTIDE_MLFLOW_URL": [f"http://u:{SECRET}@127.0.0.1:9", f"u:{SECRET}@h"],
    "EVENTIDE_STACK__AIRFLOW": [f"http://u:{SECRET}@127.0.0.1:9", f"//u:{SECRET}@h"],
    "EVENTIDE_OFFLINE_OPTIONS": [f'{{"key": "{SECRET}"', f'["{SECRET}"]'],
    "EVENTIDE_STACK__KAFKA_PORT": [SECRET],
    "EVENTIDE_STACK__PASSWORD": [SECRET],
    "EVENTIDE_LOG_JSON": [SECRET],
}
COMMANDS = [
    ("settings",),
    ("settings", "--json"),
    ("status",),
    ("logs",),
    ("down",),
    ("up", "--only", "nothing"),
    ("topics",),
    ("audit",),
    ("backfill", "flight_delay", "--from", "2013-03-01", "--until", "2013-03-02"),
    ("report", "flight_delay", "--from", "2013-03-01", "--until", "2013-03-02"),
    ("features", "pins"),
]


def parts(secret: str) -> list[str]:
    """The secret, and pieces of it that a mask could leave over."""
    return [secret, "hunter2", "with@every", "every:thing"]


@pytest.fixture(autouse=True)
def _umask_of_this_process_stays() -> Iterator[None]:
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(autouse=True)
def state(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTIDE_STATE_DIR", f"{tmp_path}/state")
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setenv("COLUMNS", "300")


def output_of(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> str:
    """What the command writes; a traceback as its process would write it."""
    monkeypatch.setattr(sys, "argv", ["eventide", *words])
    try:
        cli.main()
    except SystemExit:
        pass
    except Exception as error:  # noqa: BLE001 - whatever it is, its text is looked at
        sys.excepthook(type(error), error, error.__traceback__)
    out, err = capfd.readouterr()
    return out + err


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_command_shows_a_secret(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in RIGHT.items():
        monkeypatch.setenv(name, value)

    output = output_of(words, monkeypatch, capfd)

    assert not [part for part in parts(SECRET) if part in output], output


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in MISTYPED.items() for value in values]
)
@pytest.mark.parametrize("words", [("settings",), ("status",)], ids=" ".join)
def test_a_mistyped_setting_is_refused_by_its_name_without_its_value(
    words: tuple[str, ...],
    name: str,
    value: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, value)

    output = output_of(words, monkeypatch, capfd)

    assert not [part for part in parts(SECRET) if part in output], output
    assert "Traceback" not in output


def test_settings_do_not_show_a_secret_when_they_are_printed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in RIGHT.items():
        monkeypatch.setenv(name, value)
    settings = Settings()

    assert not [part for part in parts(SECRET) if part in f"{settings!r} {settings}"]
    assert settings.kafka.properties["sasl.password"] == SECRET
    assert settings.online_store == RIGHT["EVENTIDE_ONLINE_STORE"]


def test_a_log_does_not_hold_a_secret() -> None:
    url = RIGHT["EVENTIDE_ONLINE_STORE"]
    why = ConnectionError(f"no answer from {url}")
    text = "".join(traceback.format_exception(why))

    masked = mask_event(None, "", {"event": "down", "url": url, "why": why, "exception": text})

    assert masked["event"] == "down"
    assert not [part for part in parts(SECRET) if part in str(masked)]


def test_a_log_does_not_hold_a_secret_inside_a_field() -> None:
    url = RIGHT["EVENTIDE_ONLINE_STORE"]
    fields: dict[str, Any] = {
        "servers": [url, (url,), {"deep": {"url": url}}],
        "properties": {"sasl.password": SECRET, "group.id": "a", "retries": 3},
        "token": SECRET.encode(),
        "tokens": 7,
        "why": [ConnectionError(url)],
        "file": Path(url),
        "url": Address(url),
        url: 1,
        "count": 5,
        "share": 0.5,
        "clean": True,
        "nothing": None,
    }

    masked = mask_event(None, "", {"event": "down", "fields": fields, **fields})

    assert not [part for part in parts(SECRET) if part in str(masked["fields"])]
    assert masked["properties"] == {"sasl.password": "***", "group.id": "a", "retries": 3}
    kept = {name: masked[name] for name in ("count", "share", "clean", "nothing", "tokens")}
    assert kept == {"count": 5, "share": 0.5, "clean": True, "nothing": None, "tokens": 7}
    assert masked["token"] == "***"

"""The table of settings names each setting by its environment variable."""

import pytest

from infra.settings import Settings
from infra.settings_table import rows


def test_every_setting_is_listed_by_its_variable() -> None:
    listed = {row.variable: row for row in rows(Settings(mlflow_url="http://somewhere"))}
    assert listed["EVENTIDE_MLFLOW_URL"].value == "http://somewhere"
    assert listed["EVENTIDE_INGEST__FLUSH_ROWS"].meaning == "rows that force an offline commit"


def test_a_setting_without_a_value_shows_none() -> None:
    listed = {row.variable: row for row in rows(Settings())}
    assert listed["EVENTIDE_STACK__KAFKA_PORT"].value == ""


def test_setting_a_listed_variable_sets_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    for row in rows(Settings()):
        if row.variable == "EVENTIDE_SERVING__MAX_BATCH":
            monkeypatch.setenv(row.variable, "7")
    assert Settings().serving.max_batch == 7


def test_storage_options_are_listed_without_their_values() -> None:
    settings = Settings(offline_options={"AWS_SECRET_ACCESS_KEY": "hush"})
    [row] = [r for r in rows(settings) if r.variable == "EVENTIDE_OFFLINE_OPTIONS"]
    assert "AWS_SECRET_ACCESS_KEY" in row.value
    assert "hush" not in row.value + repr(settings) + str(settings)
    assert "aws_conditional_put" in row.meaning


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:secret@host:6379/0", "redis://:***@host:6379/0"),
        ("rediss+cluster://app:se:cret@host", "rediss+cluster://app:***@host"),
        ("redis://host:6379/0", "redis://host:6379/0"),
    ],
)
def test_the_password_in_a_url_is_not_shown(url: str, shown: str) -> None:
    listed = {row.variable: row.value for row in rows(Settings(online_store=url))}
    assert listed["EVENTIDE_ONLINE_STORE"] == shown

"""Which login our own clients use."""

from pathlib import Path

import pytest

from infra.local_stack import secrets
from infra.local_stack.logins import airflow_login, mlflow_login
from infra.settings import Settings


@pytest.fixture
def own(tmp_path: Path) -> tuple[str, str]:
    return secrets.mlflow_login(tmp_path / "secrets")


@pytest.mark.parametrize("url", ["http://127.0.0.1:5000", "http://localhost:1", "http://[::1]:1"])
def test_the_login_of_the_stack_is_used_on_this_machine(
    tmp_path: Path, own: tuple[str, str], url: str
) -> None:
    assert mlflow_login(Settings(state_dir=tmp_path, mlflow_url=url)) == own


@pytest.mark.parametrize("url", ["https://mlflow.example", "http://127.0.0.1.evil.example"])
def test_it_is_sent_to_no_other_machine(tmp_path: Path, own: tuple[str, str], url: str) -> None:
    assert mlflow_login(Settings(state_dir=tmp_path, mlflow_url=url)) is None


@pytest.mark.parametrize("url", ["https://mlflow.example", "http://127.0.0.1:5000"])
def test_the_login_of_the_settings_is_used_everywhere(
    tmp_path: Path, own: tuple[str, str], url: str
) -> None:
    settings = Settings(
        state_dir=tmp_path, mlflow_url=url, mlflow_username="me", mlflow_password="mine"
    )
    assert mlflow_login(settings) == ("me", "mine")


def test_a_client_makes_no_login_where_no_stack_has_run(tmp_path: Path) -> None:
    assert mlflow_login(Settings(state_dir=tmp_path)) is None
    assert list(tmp_path.iterdir()) == []


def test_the_login_of_airflow_is_that_of_the_settings_or_of_the_stack(tmp_path: Path) -> None:
    own = airflow_login(Settings(state_dir=tmp_path))
    assert own == secrets.airflow_login(tmp_path / "secrets")
    settings = Settings(state_dir=tmp_path, airflow_username="me", airflow_password="mine")
    assert airflow_login(settings) == ("me", "mine")

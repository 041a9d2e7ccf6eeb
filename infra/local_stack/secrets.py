"""Secrets of the local stack: made once, kept in files that only we can read."""

import base64
import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec

from infra.atomic import write_atomic
from infra.http_client import Login
from infra.local_stack.folders import own_folder
from infra.state_file import read_state

LOGIN_FILE = "airflow_login.json"
MLFLOW_LOGIN_FILE = "mlflow_login.json"
_AIRFLOW_FILE = "airflow.json"
USERNAME = "admin"


class AirflowSecrets(msgspec.Struct, frozen=True, kw_only=True):
    """The secrets that all of Airflow's processes share."""

    jwt: str
    api: str
    fernet: str


def airflow_secrets(folder: Path) -> AirflowSecrets:
    """Read the secrets from `folder`; they are made at the first call."""
    file = folder / _AIRFLOW_FILE
    shared = read_state(file, AirflowSecrets)
    if shared is None:
        fernet = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        shared = AirflowSecrets(
            jwt=secrets.token_urlsafe(48), api=secrets.token_urlsafe(32), fernet=fernet
        )
        write_private(file, msgspec.json.encode(shared))
    return shared


def airflow_login(folder: Path) -> Login:
    """User and password of Airflow's pages and API.

    The file is the one that Airflow's SimpleAuthManager reads: `{user: password}`.
    """
    return _login(login_file(folder))


def mlflow_login(folder: Path) -> Login:
    """User and password of MLflow's pages and API, kept in the same form."""
    return _login(folder / MLFLOW_LOGIN_FILE)


def stored_mlflow_login(folder: Path) -> Login | None:
    """The login of MLflow, if a stack has made one."""
    return _stored(folder / MLFLOW_LOGIN_FILE)


def _login(file: Path) -> Login:
    login = _stored(file)
    if login is None:
        login = (USERNAME, secrets.token_urlsafe(12))
        write_private(file, msgspec.json.encode(dict([login])))
    return login


def _stored(file: Path) -> Login | None:
    passwords: Mapping[str, str] = read_state(file, dict[str, str]) or {}
    return (USERNAME, passwords[USERNAME]) if passwords.get(USERNAME) else None


def login_file(folder: Path) -> Path:
    """Where the login is kept."""
    return folder / LOGIN_FILE


def write_private(file: Path, content: bytes) -> None:
    """Create a file that only we can read, in a folder that only we can enter, whole or not."""
    own_folder(file.parent)
    write_atomic(file, content, mode=0o600)

"""Secrets of the local stack: made once, kept in files that only we can read."""

import base64
import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec

from infra.atomic import write_atomic

LOGIN_FILE = "airflow_login.json"
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
    if not file.exists():
        fernet = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        shared = AirflowSecrets(
            jwt=secrets.token_urlsafe(48), api=secrets.token_urlsafe(32), fernet=fernet
        )
        write_private(file, msgspec.json.encode(shared))
    return msgspec.json.decode(file.read_bytes(), type=AirflowSecrets)


def airflow_login(folder: Path) -> tuple[str, str]:
    """User and password of Airflow's pages and API.

    The file is the one that Airflow's SimpleAuthManager reads: `{user: password}`.
    """
    file = login_file(folder)
    if not file.exists():
        write_private(file, msgspec.json.encode({USERNAME: secrets.token_urlsafe(12)}))
    passwords: Mapping[str, str] = msgspec.json.decode(file.read_bytes(), type=dict[str, str])
    return USERNAME, passwords[USERNAME]


def login_file(folder: Path) -> Path:
    """Where the login is kept."""
    return folder / LOGIN_FILE


def write_private(file: Path, content: bytes) -> None:
    """Create a file that only we can read, in a folder that only we can enter, whole or not."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.parent.chmod(0o700)
    write_atomic(file, content, mode=0o600)

"""Secrets of the local stack: made once, kept in files that only we can read."""

import base64
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec

LOGIN_FILE = "airflow_login.json"
_AIRFLOW_FILE = "airflow.json"
USERNAME = "admin"


class AirflowSecrets(msgspec.Struct, frozen=True, kw_only=True):
    """What Airflow's processes must share."""

    jwt: str
    api: str
    fernet: str


def airflow_secrets(folder: Path) -> AirflowSecrets:
    """Read them, or make them."""
    file = folder / _AIRFLOW_FILE
    if not file.exists():
        fernet = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        made = AirflowSecrets(
            jwt=secrets.token_urlsafe(48), api=secrets.token_urlsafe(32), fernet=fernet
        )
        write_private(file, msgspec.json.encode(made))
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
    """Create a file of mode 0600 whole or not at all. It never has another mode, even briefly."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.parent.chmod(0o700)
    fresh = file.with_suffix(f".{os.getpid()}")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as output:
        output.write(content)
    fresh.rename(file)

"""Which login our own clients use, for the servers that the settings name."""

from infra.http_client import Login, is_local
from infra.local_stack import secrets
from infra.settings import Settings


def mlflow_login(settings: Settings) -> Login | None:
    """The login of the settings, else the local stack's for a server of this machine, else none.

    The local stack's password is sent to no other machine.
    """
    if settings.mlflow_username:
        return settings.mlflow_username, settings.mlflow_password.get_secret_value()
    if is_local(settings.mlflow_url):
        return secrets.stored_mlflow_login(settings.state_dir / "secrets")
    return None


def airflow_login(settings: Settings) -> Login:
    """The login of the settings, else the local stack's."""
    if settings.airflow_username:
        return settings.airflow_username, settings.airflow_password.get_secret_value()
    return secrets.airflow_login(settings.state_dir / "secrets")

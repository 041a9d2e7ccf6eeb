"""Airflow's server answers only to its own names: a page whose name was made to point at this
machine gets nothing. `EVENTIDE_AIRFLOW_HOSTS` lists the names; without it every name will do.
"""

import os

from airflow.plugins_manager import AirflowPlugin
from starlette.middleware.trustedhost import TrustedHostMiddleware

_HOSTS = [h for h in os.environ.get("EVENTIDE_AIRFLOW_HOSTS", "").split(",") if h]  # noqa: TID251


class KnownHosts(AirflowPlugin):
    """Starlette's check of the Host header, before everything else."""

    name = "eventide_known_hosts"
    fastapi_root_middlewares = [  # noqa: RUF012 - Airflow reads it from the class
        {
            "name": "known hosts",
            "middleware": TrustedHostMiddleware,
            "kwargs": {"allowed_hosts": _HOSTS or ["*"]},
        }
    ]

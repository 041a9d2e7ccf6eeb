"""Airflow's four processes on one database, and the one-time set-up of that database."""

import hashlib
import importlib.metadata
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import msgspec

from infra.local_stack.environment import CLOUDS, EVENTIDE
from infra.local_stack.health_checks import get_json, responds_ok
from infra.local_stack.secrets import USERNAME, airflow_login, airflow_secrets, login_file
from infra.local_stack.service import Service

SETUP, API, SCHEDULER = "airflow-setup", "api-server", "scheduler"
DAG_PROCESSOR, TRIGGERER = "dag-processor", "triggerer"

POOLS = {"training": 2, "promotion": 1}
"""Slots: candidates that train side by side, and promotions, which never do."""


_INHERITS = (*EVENTIDE, *CLOUDS, "AIRFLOW__*", "MLFLOW_*")
"""Its tasks run our steps, which read the offline store and write to MLflow."""
PLUGINS = Path(__file__).resolve().parents[2] / "airflow" / "plugins"


class AirflowPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Where Airflow lives, what it stores in and which DAGs it runs."""

    home: Path
    secrets: Path
    port: int
    database_url: str
    dags: Path
    slots: int
    after: tuple[str, ...]

    @property
    def url(self) -> str:
        """URL of the API and the pages."""
        return f"http://127.0.0.1:{self.port}"


def airflow_services(plan: AirflowPlan) -> list[Service]:
    """The services: set-up first, the scheduler last, because its tasks need the API."""
    return [
        _setup(plan),
        _part(plan, API, after=(SETUP,)),
        _part(plan, DAG_PROCESSOR, after=(SETUP,)),
        _part(plan, TRIGGERER, "--skip-serve-logs", after=(SETUP,)),
        _part(plan, SCHEDULER, "--skip-serve-logs", after=(API,)),
    ]


def airflow_environment(plan: AirflowPlan) -> dict[str, str]:
    """The configuration that all of Airflow's processes share, as environment variables."""
    shared = airflow_secrets(plan.secrets)
    airflow_login(plan.secrets)
    return {
        "AIRFLOW_HOME": str(plan.home),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": plan.database_url,
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(plan.home / "logs"),
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        **_core(plan, fernet_key=shared.fernet),
        **_api(plan, secret_key=shared.api, jwt_secret=shared.jwt),
        **_PACE,
    }


def _core(plan: AirflowPlan, *, fernet_key: str) -> dict[str, str]:
    return {
        "AIRFLOW__CORE__DAGS_FOLDER": str(plan.dags),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PLUGINS),
        "EVENTIDE_AIRFLOW_HOSTS": "127.0.0.1,localhost",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": str(plan.slots),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__FERNET_KEY": fernet_key,
        "AIRFLOW__CORE__MP_START_METHOD": "fork",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USERNAME}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(login_file(plan.secrets)),
    }


def _api(plan: AirflowPlan, *, secret_key: str, jwt_secret: str) -> dict[str, str]:
    return {
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(plan.port),
        "AIRFLOW__API__BASE_URL": plan.url,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__SECRET_KEY": secret_key,
        "AIRFLOW__API_AUTH__JWT_SECRET": jwt_secret,
        "AIRFLOW__API_AUTH__JWT_ISSUER": "eventide",
        # Tasks of LocalExecutor that outlive their token fail: longer than any task's timeout.
        "AIRFLOW__EXECUTION_API__JWT_EXPIRATION_TIME": "86400",
    }


_PACE = {
    # Between tasks: 0.2 s would gain little more and keep a tenth of a core busy.
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
    "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
    # A busy laptop responds late; by default it is an error after 5 s.
    "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "30",
    "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "10",
}


def _setup(plan: AirflowPlan) -> Service:
    """Migrates the database and creates the pools, once for each version, database and pools."""
    marker = plan.home / "database_ready"
    version = importlib.metadata.version("apache-airflow-core")
    fingerprint = hashlib.sha256(f"{version} {plan.database_url} {POOLS}".encode()).hexdigest()
    pools = tuple(f"{name}={slots}" for name, slots in POOLS.items())
    return Service(
        name=SETUP,
        command=(
            *(sys.executable, "-P", "-m", "infra.local_stack.services.airflow_database"),
            *(str(marker), fingerprint, *pools),
        ),
        is_done=lambda: marker.exists() and marker.read_text() == fingerprint,
        prepare=lambda: plan.home.mkdir(parents=True, exist_ok=True),
        env=airflow_environment(plan),
        inherits=_INHERITS,
        once=True,
        after=plan.after,
    )


def _part(plan: AirflowPlan, name: str, *options: str, after: tuple[str, ...]) -> Service:
    return Service(
        name=name,
        command=(str(Path(sys.executable).with_name("airflow")), name, *options),
        healthy=lambda age_s: _is_healthy(plan.url, name, age_s, now_s=time.time()),
        env=airflow_environment(plan),
        inherits=_INHERITS,
        cwd=plan.home,
        after=after,
        # The scheduler waits for its tasks, and may wait for ever.
        stop_limit_s=15.0,
        address=plan.url if name == API else "",
    )


def _is_healthy(url: str, name: str, age_s: float, *, now_s: float) -> bool:
    if name == API:
        # The execution API is built at its first call: this check pays for it, not the first task.
        return responds_ok(f"{url}/api/v2/version") and responds_ok(f"{url}/execution/health")
    key = name.replace("-", "_")
    return beats(get_json(f"{url}/api/v2/monitor/health")[key], key, age_s=age_s, now_s=now_s)


def beats(health: Mapping[str, str | None], key: str, *, age_s: float, now_s: float) -> bool:
    """Whether the last heartbeat came from the process that has run for `age_s`.

    Compares two lengths of time, for a wall clock that has stepped since the start says nothing of
    it. A heartbeat from the future was written before the clock went back: it counts.
    """
    heartbeat = health[f"latest_{key}_heartbeat"]
    if health["status"] != "healthy" or heartbeat is None:
        return False
    return now_s - datetime.fromisoformat(heartbeat).timestamp() <= age_s

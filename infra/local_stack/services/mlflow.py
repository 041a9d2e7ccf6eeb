"""The MLflow server: tracking, registry and pages, artifacts through its proxy."""

import sys
from pathlib import Path

import msgspec

from infra.http_client import Login
from infra.local_stack.health_checks import responds_ok
from infra.local_stack.service import Service

NAME = "mlflow"


class MlflowPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Where the server lives and what it stores in."""

    folder: Path
    port: int
    database_url: str
    login: Login
    after: tuple[str, ...]

    @property
    def url(self) -> str:
        """URL of the API and the pages."""
        return f"http://127.0.0.1:{self.port}"


def mlflow_service(plan: MlflowPlan) -> Service:
    """MLflow's server as a service."""
    artifacts = plan.folder / "artifacts"
    return Service(
        name=NAME,
        command=(
            *(sys.executable, "-P", "-m", "infra.local_stack.services.mlflow_process"),
            *(str(plan.port), artifacts.name),
        ),
        healthy=lambda _: responds_ok(f"{plan.url}/health"),
        prepare=lambda: artifacts.mkdir(parents=True, exist_ok=True),
        env={
            # Not on the command line, where everyone could read its password.
            "MLFLOW_BACKEND_STORE_URI": plan.database_url,
            # Job execution serves GenAI features and costs eight processes.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "EVENTIDE_MLFLOW_USERNAME": plan.login[0],
            "EVENTIDE_MLFLOW_PASSWORD": plan.login[1],
            "EVENTIDE_MLFLOW_HOSTS": f"127.0.0.1:{plan.port},localhost:{plan.port}",
        },
        cwd=plan.folder,
        after=plan.after,
        address=plan.url,
    )

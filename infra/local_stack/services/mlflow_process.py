"""The MLflow server in one process, behind its guard.

    python -m infra.local_stack.services.mlflow_process PORT ARTIFACTS [ADDRESS]

The database is in MLFLOW_BACKEND_STORE_URI, the login in EVENTIDE_MLFLOW_USERNAME and _PASSWORD.
EVENTIDE_MLFLOW_HOSTS lists what a request may name as its host, with ports, separated by commas.

`mlflow server` does the same checks and then starts uvicorn as a second process, which imports
everything again: 240 MiB and 6 CPU seconds more, on a machine that starts all servers at once.
"""

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

from infra.local_stack.services.mlflow_guard import ARTIFACTS, SOURCES, Guard, guard_stores


def main(port: int, artifacts: str, address: str, environ: MutableMapping[str, str]) -> None:
    """Create or migrate the tables, then serve until SIGTERM."""
    hosts = environ["EVENTIDE_MLFLOW_HOSTS"]
    environ["MLFLOW_SERVER_ALLOWED_HOSTS"] = hosts  # read once, when the module is imported

    import uvicorn
    from mlflow.server import _UVICORN_LOG_CONFIG, handlers

    database_url = environ["MLFLOW_BACKEND_STORE_URI"]
    guard_stores(handlers._tracking_store_registry)
    environ.update(_options(database_url, artifacts))
    handlers.initialize_backend_stores(database_url, database_url, ARTIFACTS)
    from mlflow.server.fastapi_app import app

    uvicorn.run(
        Guard(
            app,
            username=environ["EVENTIDE_MLFLOW_USERNAME"],
            password=environ.pop("EVENTIDE_MLFLOW_PASSWORD"),
            hosts=hosts.split(","),
        ),
        host=address,
        port=port,
        log_config=str(_UVICORN_LOG_CONFIG),
        access_log=False,
    )


def _options(database_url: str, artifacts: str) -> dict[str, str]:
    """The options of `mlflow server`, as the app takes them. Artifacts go through its proxy."""
    from mlflow.server import constants

    return {
        constants.BACKEND_STORE_URI_ENV_VAR: database_url,
        constants.REGISTRY_STORE_URI_ENV_VAR: database_url,
        constants.ARTIFACT_ROOT_ENV_VAR: ARTIFACTS,
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
        # As a URI: a folder may have any name.
        constants.ARTIFACTS_DESTINATION_ENV_VAR: artifacts
        if "://" in artifacts
        else Path(artifacts).resolve().as_uri(),
        "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX": SOURCES,
    }


if __name__ == "__main__":
    main(
        int(sys.argv[1]),
        sys.argv[2],
        sys.argv[3] if len(sys.argv) > 3 else "127.0.0.1",
        os.environ,  # noqa: TID251
    )

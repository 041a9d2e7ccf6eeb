"""The MLflow server in one process.

    python -m infra.local_stack.services.mlflow_process PORT ARTIFACTS

The database is in MLFLOW_BACKEND_STORE_URI.

`mlflow server` does the same checks and then starts uvicorn as a second process, which imports
everything again: 240 MiB and 6 CPU seconds more, on a machine that starts all servers at once.
"""

import os
import sys

_ARTIFACT_ROOT = "mlflow-artifacts:/"  # through the server's proxy: clients need no shared folder


def main(port: int, artifacts: str, database_url: str) -> None:
    """Create or migrate the tables, then serve until SIGTERM."""
    import uvicorn
    from mlflow.server import _UVICORN_LOG_CONFIG, constants
    from mlflow.server.handlers import initialize_backend_stores

    os.environ.update(  # noqa: TID251 - the app that uvicorn loads takes its options from there
        {
            constants.BACKEND_STORE_URI_ENV_VAR: database_url,
            constants.REGISTRY_STORE_URI_ENV_VAR: database_url,
            constants.ARTIFACT_ROOT_ENV_VAR: _ARTIFACT_ROOT,
            constants.SERVE_ARTIFACTS_ENV_VAR: "true",
            constants.ARTIFACTS_DESTINATION_ENV_VAR: artifacts,
        }
    )
    initialize_backend_stores(database_url, database_url, _ARTIFACT_ROOT)
    uvicorn.run(
        "mlflow.server.fastapi_app:app",
        host="127.0.0.1",
        port=port,
        log_config=str(_UVICORN_LOG_CONFIG),
        access_log=False,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], os.environ["MLFLOW_BACKEND_STORE_URI"])  # noqa: TID251

"""The command of `serving`."""

import os
from pathlib import Path

import typer

app = typer.Typer()


@app.command()
def serve(
    project: str = typer.Option(
        "", help="Project whose champion serves. Default: from the settings."
    ),
    health_port: int = typer.Option(
        8082, help="Port of /healthz, /readyz and /metrics on 127.0.0.1; 0 takes any free one."
    ),
    bundle: Path | None = typer.Option(
        None, help="Serve the bundle in this folder instead of the registry's champion."
    ),
) -> None:
    """Serve predictions: write one outcome for each request to the predictions topic.

    Waits for a champion, an online store and the topics. Loads a new champion without a restart. A
    process serves one project; several processes can run side by side.

    The first SIGTERM or Ctrl-C finishes the current batch and ends with exit code 0, the second
    ends at once. Exit code 1: Kafka cannot be used. 3: another process serves the project under
    this instance's name. 75: the loop hung and was ended; a new process continues after the last
    committed transaction.
    """
    # Before anything loads OpenMP: two threads on busy cores cost a factor of twenty.
    os.environ["OMP_NUM_THREADS"] = "1"
    from infra.logging import configure_logging
    from infra.process.signals import stop_at_signal
    from infra.settings import load_settings
    from serving.bootstrap import serve_until

    settings = load_settings()
    configure_logging(json=settings.log_json, level=settings.log_level)
    serve_until(
        stop_at_signal(),
        settings,
        project=project or settings.serving.project,
        health_port=health_port,
        bundle=bundle,
    )

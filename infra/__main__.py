"""The commands of `infra`: the local stack, and the settings."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from infra import settings_table
from infra.command_options import Json, print_json
from infra.settings import load_settings
from infra.tables import numbers, print_table, prose, words

if TYPE_CHECKING:
    from infra.http_client import Login
    from infra.local_stack.state_files import ServiceStatus

app = typer.Typer()

Only = Annotated[
    str,
    typer.Option(
        help="Only these services, separated by commas, and what they need. Default: all."
    ),
]


@app.command()
def up(
    only: Only = "",
    timeout: Annotated[float, typer.Option(help="Seconds to wait until all is healthy.")] = 300,
) -> None:
    """Start the local stack, or attach to the running one, and wait until all is healthy.

    Starts Kafka, PostgreSQL, MLflow and Airflow, then ingest and serving, as processes of this
    machine that listen on 127.0.0.1 only. Data, logs and secrets stay in the state folder between
    runs. A service that dies is restarted; `eventide down` ends all of them.
    """
    from infra.local_stack import lifecycle

    os.umask(0o077)  # what the stack keeps is for its user
    settings, console = load_settings(), Console(highlight=False)
    status = lifecycle.up(
        settings,
        only=[name.strip() for name in only.split(",") if name.strip()],
        limit_s=timeout,
        environ=dict(os.environ),
        on_progress=lambda line: console.print(line, markup=False),
    )
    _print_addresses(console, status.services)


@app.command()
def down() -> None:
    """Stop the local stack in order, and any process that a crash left. Data stay."""
    from infra.local_stack import lifecycle

    console = Console(highlight=False)
    lifecycle.down(load_settings(), on_progress=lambda line: console.print(line, markup=False))
    console.print("nothing runs")


@app.command()
def status(as_json: Json = False) -> None:
    """List each service: its state, process id, number of restarts and address.

    Exit code 0: all services are healthy. 3: one is not, or nothing runs.
    """
    from infra.local_stack import lifecycle
    from infra.local_stack.state_files import READY

    stack = lifecycle.report(load_settings())
    if as_json:
        print_json(stack)
    else:
        _print_services(stack.services if stack.running else ())
    healthy = stack.running and all(s.state in READY for s in stack.services)
    raise typer.Exit(0 if healthy else 3)


@app.command()
def logs(
    service: Annotated[str | None, typer.Argument(help="One service. Default: all.")] = None,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Wait for new lines and print them.")
    ] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", help="Number of last lines.")] = 40,
) -> None:
    """Print the output of the services. `eventide logs stack` prints that of the supervisor."""
    from infra.local_stack.logs import read_logs
    from infra.local_stack.state_files import StackFiles

    files = StackFiles(load_settings().state_dir)
    try:
        for line in read_logs(files, service, lines=lines, follow=follow):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


@app.command()
def clean(
    yes: Annotated[bool, typer.Option("--yes", help="Remove without confirmation.")] = False,
) -> None:
    """Remove all data, logs and secrets of the stopped local stack. This cannot be undone."""
    from infra.local_stack import lifecycle

    settings, console = load_settings(), Console(highlight=False)
    lifecycle.check_stopped(settings)
    if not yes:
        typer.confirm(f"Remove all data in {settings.state_dir}?", abort=True)
    removed = lifecycle.clean(settings, on_progress=lambda line: console.print(line, markup=False))
    console.print(f"removed {', '.join(removed)}" if removed else "there was nothing to remove")


@app.command()
def settings(as_json: Json = False) -> None:
    """List every setting: its variable, its current value and its meaning."""
    rows = settings_table.rows(load_settings())
    if as_json:
        values = {row.variable: row.value for row in rows}
        print_json(values)
        return
    print_table(
        Console(highlight=False),
        (*words("variable", "value"), prose("meaning")),
        [(row.variable, row.value, row.meaning) for row in rows],
    )


def _print_services(services: "Sequence[ServiceStatus]") -> None:
    console = Console(highlight=False)
    if not services:
        console.print("nothing runs: `eventide up`")
        return
    print_table(
        console,
        (*words("service", "state"), *numbers("pid", "restarts"), *words("address"), prose("note")),
        [
            (
                s.name,
                s.state,
                "" if s.pid is None else str(s.pid),
                str(s.restarts),
                s.address,
                s.note,
            )
            for s in services
        ],
    )


def _print_addresses(console: Console, services: "list[ServiceStatus]") -> None:
    from infra.local_stack import logins

    settings = load_settings()  # again: the endpoints are known now
    names = {service.name for service in services}
    console.print()
    if "mlflow" in names:
        _print_page(console, "MLflow ", settings.mlflow_url, logins.mlflow_login(settings))
    if "api-server" in names:
        _print_page(console, "Airflow", settings.airflow_url, logins.airflow_login(settings))
    console.print("`eventide status` shows the services, `eventide down` stops them")


def _print_page(console: Console, name: str, url: str, login: "Login | None") -> None:
    text = f"   user {login[0]}, password {login[1]}" if login else ""
    console.print(f"{name}  {url}{text}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    app()

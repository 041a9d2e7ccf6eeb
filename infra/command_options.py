"""Options and output that the commands of several packages share."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer

from infra.clock import to_us

Json = Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")]
MOMENTS = [
    "%Y-%m-%d",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%dT%H:%M:%SZ",
    "%Y-%m-%dT%H:%M:%S%z",
]


def utc_us(moment: datetime) -> int:
    """Microseconds since 1970. A moment without a time zone is in UTC."""
    return to_us(moment.replace(tzinfo=moment.tzinfo or UTC))


def print_json(result: object) -> None:
    """Print `result` as one line of JSON."""
    typer.echo(msgspec.json.encode(result).decode())


def print_result(result: object, text: Callable[[], str], *, as_json: bool) -> None:
    """Print `result` as JSON, or `text` for people."""
    if as_json:
        print_json(result)
    else:
        typer.echo(text())

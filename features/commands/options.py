"""What several commands take."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from infra.clock import to_us

Json = Annotated[bool, typer.Option("--json", help="For machines.")]
MOMENTS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M"]


def utc_us(moment: datetime) -> int:
    """Microseconds since 1970. A moment that names no zone is one of UTC."""
    return to_us(moment.replace(tzinfo=moment.tzinfo or UTC))

"""Eventide's own processes, started by command: infra imports no package above it."""

import sys
from pathlib import Path

from infra.local_stack.environment import CLOUDS, EVENTIDE
from infra.local_stack.health_checks import responds_ok
from infra.local_stack.service import Service

TOPICS, INGEST, SERVING = "topics", "ingest", "serving"


def topics_service(*, after: tuple[str, ...]) -> Service:
    """The service that creates missing topics."""
    return Service(
        name=TOPICS, command=_eventide("topics"), once=True, after=after, inherits=EVENTIDE
    )


def ingest_service(*, port: int, after: tuple[str, ...]) -> Service:
    """The ingest service."""
    return _consumer(INGEST, "ingest", port=port, after=after, inherits=(*EVENTIDE, *CLOUDS))


def serving_service(*, port: int, after: tuple[str, ...]) -> Service:
    """The serving service. Healthy without a model: it waits for the first champion."""
    return _consumer(SERVING, "serve", port=port, after=after, inherits=EVENTIDE)


def _consumer(
    name: str, command: str, *, port: int, after: tuple[str, ...], inherits: tuple[str, ...]
) -> Service:
    url = f"http://127.0.0.1:{port}"
    return Service(
        name=name,
        command=_eventide(command, "--health-port", str(port)),
        healthy=lambda _: responds_ok(f"{url}/healthz"),
        after=after,
        inherits=inherits,
        address=f"{url}/metrics",
    )


def _eventide(*words: str) -> tuple[str, ...]:
    return (str(Path(sys.executable).with_name("eventide")), *words)

"""Runs the loop of a consumer process beside its health pages."""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import structlog

from infra.process.health import HealthServer
from infra.process.watchdog import Watchdog

log = structlog.get_logger()


class Loop(Protocol):
    """A loop that runs until the event that it was given is set."""

    def ready(self) -> tuple[bool, str]:
        """Whether it takes records; if not, why."""
        ...

    def run(self) -> None:
        """Run to the end; errors that it cannot deal with are raised."""
        ...


def run_loop(
    loop: Loop,
    *,
    name: str,
    watchdog: Watchdog,
    health_port: int,
    health_host: str,
    health_names: Collection[str] = (),
    **context: object,
) -> None:
    """Run the loop to its end while a thread serves /healthz, /readyz and /metrics.

    The loop runs in a thread of its own: the kernel prefers the main thread for signals, so they
    interrupt no call of a store or the client. `context` goes into the log events of start and end.

    Raises:
        PortBusy: the health port is taken.
        Exception: whatever `loop.run` raises.
    """
    with (
        HealthServer(
            health_port,
            live=lambda: watchdog.alive,
            ready=loop.ready,
            host=health_host,
            names=health_names,
        ) as pages,
        ThreadPoolExecutor(1, thread_name_prefix=name) as thread,
    ):
        log.info("process_started", process=name, health_port=pages.port, **context)
        thread.submit(loop.run).result()
    log.info("process_stopped", process=name, **context)

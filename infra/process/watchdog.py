"""Ends a process whose loop hangs.

After a broker's crash a transactional call of the client may wait for ever, whatever its timeout
(librdkafka issues 5456 and 5511). Nothing inside the process can repair that. The brokers abort the
open transaction, so a new process continues from the last committed position.
"""

import os
import threading
from collections.abc import Callable

import structlog

from infra.process.background import Background

log = structlog.get_logger()

EXIT_HUNG = 75  # "try again": the supervisor starts a new process
TICKS = 20


def end_process() -> None:
    """Exit at once: no clean-up could be trusted to return."""
    os._exit(EXIT_HUNG)


class Watchdog(Background):
    """Ends the process when `heartbeat` has not been called for `limit_s` seconds.

    It counts its own ticks instead of reading a clock: a machine that slept, or a process that
    was stopped and continued, is not hung.
    """

    def __init__(self, limit_s: float, *, on_hang: Callable[[], None] = end_process) -> None:
        self._limit_s = limit_s
        self._on_hang = on_hang
        self._missed_ticks = 0
        super().__init__("watchdog", self._watch)

    def heartbeat(self) -> None:
        """The loop is alive."""
        self._missed_ticks = 0

    @property
    def alive(self) -> bool:
        """Whether the loop has called `heartbeat` within the limit."""
        return self._missed_ticks <= TICKS

    def _watch(self, closed: threading.Event) -> None:
        while not closed.wait(self._limit_s / TICKS):
            self._missed_ticks += 1
            if self._missed_ticks > TICKS:
                log.error("process_hung", limit_s=self._limit_s, exit_code=EXIT_HUNG)
                self._on_hang()
                return

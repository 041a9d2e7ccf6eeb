"""`eventide ingest` or `eventide serve` as a process under the control of a test."""

import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.health_pages import health_page


class ServiceProcess:
    """Runs from its creation on; a test stops, kills and restarts it and reads its pages."""

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], port: int, log: Path
    ) -> None:
        self.env, self.port, self.log = dict(env), port, log
        self._command = list(command)
        self.process = self.start()

    def start(self) -> "subprocess.Popen[bytes]":
        """Start it, the first time or again."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, env=self.env, stdout=log, stderr=log, start_new_session=True
            )
        return self.process

    @property
    def ended(self) -> int | None:
        """The exit code of a process that has ended."""
        return self.process.poll()

    def restart_if_ended(self) -> bool:
        """Start the process again if it has ended, as a supervisor does; returns whether it had."""
        if self.ended is None:
            return False
        self.start()
        return True

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self, limit_s: float = 30.0) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(limit_s)

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a health page; (0, "") while nothing listens."""
        return health_page(self.port, path)

    def text(self) -> str:
        """Its log so far."""
        return self.log.read_text(errors="replace")

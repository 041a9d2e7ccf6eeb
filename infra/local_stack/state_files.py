"""The files by which supervisor, reaper and command line know of each other.

Their names and fields on disk stay as they are: a command must find a stack that an earlier version
started.
"""

from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from infra.atomic import write_atomic
from infra.local_stack.process_table import ProcessId
from infra.settings import ENDPOINTS_FILE
from infra.state_file import read_state

ServiceState = Literal[
    "waiting", "preparing", "starting", "healthy", "unhealthy", "done", "restarting", "stopped"
]
StackState = Literal["starting", "up", "stopping", "down"]

T = TypeVar("T")
READY: frozenset[ServiceState] = frozenset({"healthy", "done"})


class StartRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which services `up` makes the supervisor run."""

    ports: dict[str, int]
    only: list[str]
    """Names of services; empty: all."""


class ProcessTable(msgspec.Struct, frozen=True, kw_only=True):
    """Every process of the stack, so that a command can end them after any crash."""

    reaper: ProcessId | None = msgspec.field(default=None, name="guard")
    supervisor: ProcessId | None = None
    session_leaders: list[ProcessId] = msgspec.field(default_factory=list, name="leaders")
    """The first process of each service, which leads a session."""
    descendants: list[ProcessId] = msgspec.field(default_factory=list, name="others")
    """What the leaders had started when the table was written; some may have left the session."""

    def all(self) -> list[ProcessId]:
        """Supervisor and reaper last: they end the others better than a command does."""
        parents = [process for process in (self.supervisor, self.reaper) if process]
        return [*self.session_leaders, *self.descendants, *parents]


class ServiceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One service, as the supervisor sees it."""

    name: str
    state: ServiceState
    pid: int | None
    restarts: int
    seconds: float | None
    """From the start of the stack until it was first healthy."""
    note: str
    """Why it is in this state, if that is not obvious."""
    address: str


class StackStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The stack, as the supervisor sees it."""

    state: StackState
    started_s: float
    """Seconds since 1970."""
    services: list[ServiceStatus]

    @property
    def is_ready(self) -> bool:
        """Whether every service is healthy or done."""
        return all(service.state in READY for service in self.services)


class StackFiles:
    """Where these files are, and how they are written: whole or not at all."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.folder = state / "stack"
        self.logs = state / "logs"
        self.endpoints = state / ENDPOINTS_FILE
        self.lock = self.folder / "lock"
        """Held by an `up` that starts the stack, and by `clean`."""
        self.running = self.folder / "running"
        """Held by the reaper and the supervisor, for as long as one of them lives."""
        self._start_request = self.folder / "boot.json"
        self._processes = self.folder / "processes.json"
        self._status = self.folder / "status.json"

    def log(self, service: str) -> Path:
        """What the service has printed, over all its restarts."""
        return self.logs / f"{service}.log"

    def write_start_request(self, request: StartRequest) -> None:
        """Write the request for the supervisor; the next `up` reuses its ports."""
        self._write(self._start_request, request)

    def start_request(self) -> StartRequest | None:
        """The last one; None before the first."""
        return self._read(self._start_request, StartRequest)

    def write_processes(self, processes: ProcessTable) -> None:
        """After every start of a process, before anything else happens."""
        self._write(self._processes, processes)

    def processes(self) -> ProcessTable:
        """Empty when nothing runs."""
        return self._read(self._processes, ProcessTable) or ProcessTable()

    def clear_processes(self) -> None:
        """Record that nothing runs."""
        self._processes.unlink(missing_ok=True)

    def write_status(self, status: StackStatus) -> None:
        """Write the status for the command line."""
        self._write(self._status, status)

    def status(self) -> StackStatus | None:
        """As last written; the supervisor may have vanished since."""
        return self._read(self._status, StackStatus)

    def write_endpoints(self, endpoints: dict[str, object]) -> None:
        """The addresses that `load_settings` reads in every process."""
        self._write(self.endpoints, endpoints)

    def _write(self, file: Path, content: object) -> None:
        text = msgspec.json.format(msgspec.json.encode(content), indent=1)
        if not _holds(file, text):  # the supervisor repeats itself, which repairs a damaged file
            write_atomic(file, text, mode=0o600)

    def _read(self, file: Path, type_: type[T]) -> T | None:
        return read_state(file, type_)


def _holds(file: Path, content: bytes) -> bool:
    try:
        return file.read_bytes() == content
    except OSError:
        return False

"""The files by which supervisor, guard and command line know of each other."""

import os
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from infra.local_stack.process_table import ProcessId
from infra.settings import ENDPOINTS_FILE

ServiceState = Literal[
    "waiting", "preparing", "starting", "healthy", "unhealthy", "done", "restarting", "stopped"
]
StackState = Literal["starting", "up", "stopping", "down"]

T = TypeVar("T")
READY: frozenset[ServiceState] = frozenset({"healthy", "done"})


class StartRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What `up` asks the supervisor to run."""

    ports: dict[str, int]
    only: list[str]
    """Names of services; empty: all."""


class ProcessTable(msgspec.Struct, frozen=True, kw_only=True):
    """Every process of the stack, so that whoever comes after a crash can end them."""

    guard: ProcessId | None = None
    supervisor: ProcessId | None = None
    leaders: list[ProcessId] = []
    """First processes of services: each leads a session."""
    others: list[ProcessId] = []
    """Their descendants as of lately, for those that left the session."""

    def all(self) -> list[ProcessId]:
        """Guard and supervisor last: they end the others better than we do."""
        ours = [process for process in (self.supervisor, self.guard) if process]
        return [*self.leaders, *self.others, *ours]


class ServiceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One service, as the supervisor sees it."""

    name: str
    state: ServiceState
    pid: int | None
    restarts: int
    seconds: float | None
    """From the start of the stack until it was first healthy."""
    note: str
    """Why it is in this state, where that is not plain."""
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
        self._boot = self.folder / "boot.json"
        self._roll = self.folder / "processes.json"
        self._status = self.folder / "status.json"

    def log(self, service: str) -> Path:
        """What the service printed, in all its lives."""
        return self.logs / f"{service}.log"

    def write_start_request(self, boot: StartRequest) -> None:
        """Also remembers the ports for next time."""
        self._write(self._boot, boot)

    def boot(self) -> StartRequest | None:
        """The last boot; None before the first."""
        return self._read(self._boot, StartRequest)

    def write_processes(self, roll: ProcessTable) -> None:
        """After every start, before anything else happens."""
        self._write(self._roll, roll)

    def roll(self) -> ProcessTable:
        """Empty when nothing runs."""
        return self._read(self._roll, ProcessTable) or ProcessTable()

    def clear_processes(self) -> None:
        """Nothing runs any more."""
        self._roll.unlink(missing_ok=True)

    def write_status(self, status: StackStatus) -> None:
        """For the command line."""
        self._write(self._status, status)

    def status(self) -> StackStatus | None:
        """As last written; the supervisor may have vanished since."""
        return self._read(self._status, StackStatus)

    def write_endpoints(self, endpoints: dict[str, object]) -> None:
        """What `load_settings` reads in every process."""
        self._write(self.endpoints, endpoints)

    def _write(self, file: Path, content: object) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1))
        fresh.rename(file)

    def _read(self, file: Path, type_: type[T]) -> T | None:
        try:
            return msgspec.json.decode(file.read_bytes(), type=type_)
        except FileNotFoundError:
            return None

"""The local stack under the control of a test, by its own command."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import psutil

from infra.local_stack.definition import port_requests
from infra.local_stack.ports import any_port
from infra.local_stack.process_table import ProcessId, identify, is_alive
from infra.local_stack.state_files import ServiceStatus, StackFiles
from infra.settings import StackSettings
from tests.support.processes.commands import EVENTIDE


def own_ports() -> dict[str, str]:
    """Settings that give each server of a stack a port of its own.

    Two stacks that start at the same moment would both find the default ports free.
    """
    taken: set[int] = set()
    settings = {}
    for request in port_requests(StackSettings()):
        port = any_port(taken)
        taken.add(port)
        settings[request.variable] = str(port)
    return settings


class Stack:
    """A local stack with a state folder of its own, under the command line."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.files = StackFiles(state)

    def __call__(self, *words: str, ok: bool = True, **env: str) -> str:
        """Run a command; what it printed."""
        completed = subprocess.run(
            [EVENTIDE, *words],
            env={**os.environ, "EVENTIDE_STATE_DIR": str(self.state), **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert (completed.returncode == 0) == ok, (
            f"{words}: {completed.returncode}\n{completed.stdout}{completed.stderr}"
        )
        return completed.stdout + completed.stderr

    def service(self, name: str) -> Any:
        """What `eventide status` says of a service."""
        status = json.loads(self("status", "--json", ok=self.is_healthy()))
        return {service["name"]: service for service in status["services"]}[name]

    def recorded(self, name: str) -> ServiceStatus | None:
        """What the supervisor wrote of a service last; None before it wrote anything."""
        status = self.files.status()
        return {s.name: s for s in status.services}[name] if status else None

    def is_healthy(self) -> bool:
        """Whether every service runs and answers."""
        status = self.files.status()
        return status is not None and status.is_ready and bool(self.processes())

    def processes(self) -> set[ProcessId]:
        """Reaper, supervisor, servers and all their descendants, by the process table."""
        reaper = self.files.processes().reaper
        if reaper is None or not is_alive(reaper):
            return set()
        below = psutil.Process(reaper.pid).children(recursive=True)
        return {reaper, *(me for child in below if (me := identify(child.pid)))}

    def bootstrap_servers(self) -> str:
        """Where its broker is."""
        return str(json.loads(self.files.endpoints.read_text())["kafka"]["bootstrap_servers"])


def all_gone(processes: set[ProcessId]) -> bool:
    """Whether none of them runs any more."""
    return not any(is_alive(process) for process in processes)


def is_back(stack: Stack, name: str, *, than: int) -> bool:
    """Whether a service is healthy after more restarts than that."""
    service = stack.recorded(name)
    return service is not None and service.state == "healthy" and service.restarts > than

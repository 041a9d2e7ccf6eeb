"""What the commands do with the stack, from outside: up, down, status, clean.

Nothing here runs a server itself; `startup.py` starts the supervisor that does.
"""

import os
import shutil
import signal
from collections.abc import Callable

import msgspec

from infra.atomic import exclusive_lock
from infra.local_stack import definition
from infra.local_stack.process_table import ProcessId, is_alive, kill_all
from infra.local_stack.secrets import airflow_login
from infra.local_stack.service import StackError
from infra.local_stack.startup import running_supervisor, start_supervisor, wait_until_ready
from infra.local_stack.state_files import ServiceStatus, StackFiles, StackStatus
from infra.process.waiting import wait_until
from infra.settings import Settings

STOP_LIMIT_S = 120.0


class StackReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `status` shows. `running` says whether a supervisor is there at all."""

    running: bool
    state: str
    services: list[ServiceStatus]


def up(
    settings: Settings,
    *,
    only: list[str],
    limit_s: float,
    environ: dict[str, str],
    on_progress: Callable[[str], None],
) -> StackStatus:
    """Start the stack, or attach to the one that runs, and wait until all is healthy.

    Raises:
        StackError: a port is busy, a service keeps dying, or the limit passed.
    """
    files = StackFiles(settings.state_dir)
    with exclusive_lock(files.lock):  # a second `up` waits, and then attaches
        _wait_for_a_stack_that_is_stopping(files)
        if running_supervisor(files) is None:
            end_leftovers(files, on_progress)
            start_supervisor(settings, files, only=only, environ=environ, on_progress=on_progress)
        else:
            _check_only(files, only)
    return wait_until_ready(files, limit_s=limit_s, on_progress=on_progress)


def down(settings: Settings, *, on_progress: Callable[[str], None]) -> None:
    """Stop the stack in order, and whatever a crash left. When nothing runs, nothing happens."""
    files = StackFiles(settings.state_dir)
    supervisor, reaper = running_supervisor(files), files.processes().reaper
    if supervisor is not None:
        os.kill(supervisor.pid, signal.SIGTERM)
        _wait_for_end(files, reaper or supervisor, on_progress)
    end_leftovers(files, on_progress)


def report(settings: Settings) -> StackReport:
    """The stack as it is now."""
    files = StackFiles(settings.state_dir)
    status = files.status()
    if status is None or running_supervisor(files) is None:
        return StackReport(running=False, state="down", services=[])
    return StackReport(running=True, state=status.state, services=status.services)


def clean(settings: Settings) -> list[str]:
    """Remove all data, logs and secrets of the stack; the names of what was removed.

    Raises:
        StackError: the stack runs.
    """
    check_stopped(settings)
    removed = []
    for entry in sorted(settings.state_dir.glob("*")):
        removed.append(entry.name)
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    return removed


def check_stopped(settings: Settings) -> None:
    """Check that no supervisor runs.

    Raises:
        StackError: one does.
    """
    if report(settings).running:
        raise StackError("the stack is running", hint="`eventide down` first")


def end_leftovers(files: StackFiles, on_progress: Callable[[str], None]) -> None:
    """Kill the processes that are left when both supervisor and reaper were killed."""
    killed = kill_all(files.processes().all())
    if killed:
        on_progress(f"ended {len(killed)} processes that a crash had left")
    files.clear_processes()
    files.endpoints.unlink(missing_ok=True)


def login(settings: Settings) -> tuple[str, str]:
    """User and password of the local Airflow."""
    return airflow_login(definition.secrets_folder(settings))


def _wait_for_a_stack_that_is_stopping(files: StackFiles) -> None:
    """Wait for a stack that is stopping to end: `up` does not attach to it."""
    status, reaper = files.status(), files.processes().reaper
    stopping = status is not None and status.state in ("stopping", "down")
    if reaper is not None and (stopping or running_supervisor(files) is None):
        _wait_for_end(files, reaper, lambda _: None)


def _check_only(files: StackFiles, only: list[str]) -> None:
    """A stack that runs some services is not extended: that would be another stack.

    Raises:
        StackError: `only` names a service that the running stack does not have.
    """
    status = files.status()
    missing = set(only) - {service.name for service in status.services} if status else set()
    if missing:
        raise StackError(
            f"the running stack has no {', '.join(sorted(missing))}", hint="`eventide down` first"
        )


def _wait_for_end(files: StackFiles, last: ProcessId, on_progress: Callable[[str], None]) -> None:
    """Wait until the last process has ended, and report each service that stops meanwhile."""
    reported = set[str]()

    def has_ended() -> bool:
        status = files.status()
        for service in status.services if status else []:
            if service.state == "stopped" and service.name not in reported:
                reported.add(service.name)
                on_progress(f"stopped {service.name}")
        return not is_alive(last)

    wait_until(has_ended, limit_s=STOP_LIMIT_S)

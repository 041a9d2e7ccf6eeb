"""What the commands do with the stack, from outside: up, down, status, clean.

Nothing here runs a server itself; `startup.py` starts the supervisor that does.
"""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec

from infra.local_stack.folders import check_owner
from infra.local_stack.process_table import ProcessId, is_alive, kill_all
from infra.local_stack.service import StackError
from infra.local_stack.startup import (
    check_machine,
    is_running,
    running_supervisor,
    start_supervisor,
    wait_until_ready,
)
from infra.local_stack.state_files import ServiceStatus, StackFiles, StackStatus
from infra.locks import exclusive_lock, hold, is_held
from infra.process.waiting import wait_until
from infra.settings import Settings

STOP_LIMIT_S = 120.0
TABLE_LIMIT_S = 15.0


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
    check_machine(settings, environ, on_progress)
    with exclusive_lock(files.lock):  # a second `up` waits, and then attaches
        _await_process_table(files)
        _wait_for_a_stack_that_is_stopping(files)
        if running_supervisor(files) is None:
            end_leftovers(files, on_progress)
            start_supervisor(settings, files, only=only, environ=environ, on_progress=on_progress)
        else:
            _check_only(files, only)
    return wait_until_ready(files, limit_s=limit_s, on_progress=on_progress)


def down(settings: Settings, *, on_progress: Callable[[str], None]) -> None:
    """Stop the stack in order, and whatever a crash left. When nothing runs, nothing happens."""
    check_owner(settings.state_dir)
    files = StackFiles(settings.state_dir)
    _await_process_table(files)
    supervisor, reaper = running_supervisor(files), files.processes().reaper
    if supervisor is not None:
        os.kill(supervisor.pid, signal.SIGTERM)
        _wait_for_end(files, reaper or supervisor, on_progress)
    end_leftovers(files, on_progress)


def report(settings: Settings) -> StackReport:
    """The stack as it is now."""
    check_owner(settings.state_dir)
    files = StackFiles(settings.state_dir)
    _await_process_table(files)
    status = files.status()
    if status is None or running_supervisor(files) is None:
        return StackReport(running=False, state="down", services=[])
    return StackReport(running=True, state=status.state, services=status.services)


def clean(settings: Settings, *, on_progress: Callable[[str], None]) -> list[str]:
    """Remove all data, logs and secrets of the stack; the names of what was removed.

    First ends what a crash has left, for nothing may be deleted under a running server.

    Raises:
        StackError: the stack runs.
    """
    check_stopped(settings)
    files = StackFiles(settings.state_dir)
    names = sorted(entry.name for entry in settings.state_dir.glob("*"))
    if not names:
        return []
    with exclusive_lock(files.lock):
        running = hold(files.running)
        if running is None:
            raise _runs()
        try:
            end_leftovers(files, on_progress)
            _remove([settings.state_dir / n for n in names if n != files.folder.name])
            _remove([files.folder])  # last: it holds the locks
        finally:
            os.close(running)
    return names


def check_stopped(settings: Settings) -> None:
    """Check that the state folder is ours, and that no stack runs in it.

    Raises:
        StackError: one does, or the folder is another user's.
    """
    check_owner(settings.state_dir)
    if is_running(StackFiles(settings.state_dir)):
        raise _runs()


def end_leftovers(files: StackFiles, on_progress: Callable[[str], None]) -> None:
    """Kill the processes that are left when both supervisor and reaper were killed."""
    killed = kill_all(files.processes().all())
    if killed:
        on_progress(f"ended {len(killed)} processes that a crash had left")
    files.clear_processes()
    files.endpoints.unlink(missing_ok=True)


def _wait_for_a_stack_that_is_stopping(files: StackFiles) -> None:
    """Wait for a stack that is stopping to end: `up` does not attach to it."""
    status, reaper = files.status(), files.processes().reaper
    stopping = status is not None and status.state in ("stopping", "down")
    if stopping or running_supervisor(files) is None:
        if reaper is not None:
            _wait_for_end(files, reaper, lambda _: None)
        wait_until(lambda: not is_held(files.running), limit_s=STOP_LIMIT_S)


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
        return not is_alive(last) and not is_held(files.running)

    wait_until(has_ended, limit_s=STOP_LIMIT_S)


def _remove(entries: list[Path]) -> None:
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)


def _runs() -> StackError:
    return StackError("the stack is running", hint="`eventide down` first")


def _await_process_table(files: StackFiles) -> None:
    """A stack that holds its lock writes its processes down within seconds, if need be again."""
    if is_held(files.running):
        wait_until(lambda: bool(files.processes().all()), limit_s=TABLE_LIMIT_S)

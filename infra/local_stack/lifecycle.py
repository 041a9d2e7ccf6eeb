"""Start, attach to, ask and stop the stack from outside. Nothing here runs a server itself."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from infra.local_stack import definition as plan
from infra.local_stack.ports import choose_ports
from infra.local_stack.process_table import ProcessId, is_alive, kill_all
from infra.local_stack.secrets import airflow_login
from infra.local_stack.service import Service, StackError, with_dependencies
from infra.local_stack.state_files import (
    READY,
    ServiceStatus,
    StackFiles,
    StackStatus,
    StartRequest,
)
from infra.settings import Settings

STOP_LIMIT_S = 120.0
TOO_MANY_STARTS = 4
"""So often may a service die while the stack comes up before `up` gives up on it."""
_LOG_LINES = 25


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `status` shows. `running` tells whether a supervisor is there at all."""

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
    with _one_at_a_time(files):
        _await_end_of_stopping(files)
        if _supervisor(files) is None:
            end_leftovers(files, on_progress)
            _start(settings, files, only=only, environ=environ, on_progress=on_progress)
        else:
            _check_only(files, only)
    return _wait_until_ready(files, limit_s=limit_s, on_progress=on_progress)


def down(settings: Settings, *, on_progress: Callable[[str], None]) -> None:
    """Stop the stack in order, and whatever a crash left. Nothing to do is fine."""
    files = StackFiles(settings.state_dir)
    supervisor, guard = _supervisor(files), files.roll().guard
    if supervisor is not None:
        os.kill(supervisor.pid, signal.SIGTERM)
        _watch_stop(files, guard or supervisor, on_progress)
    end_leftovers(files, on_progress)


def report(settings: Settings) -> Report:
    """The stack as it is now."""
    files = StackFiles(settings.state_dir)
    status = files.status()
    if status is None or _supervisor(files) is None:
        return Report(running=False, state="down", services=[])
    return Report(running=True, state=status.state, services=status.services)


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
    """Nothing, when no supervisor runs.

    Raises:
        StackError: one does.
    """
    if report(settings).running:
        raise StackError("the stack is running", hint="`eventide down` first")


def end_leftovers(files: StackFiles, on_progress: Callable[[str], None]) -> None:
    """Kill what a supervisor that was killed together with its guard left behind."""
    killed = kill_all(files.roll().all())
    if killed:
        on_progress(f"ended {len(killed)} processes that an earlier crash had left")
    files.clear_processes()
    files.endpoints.unlink(missing_ok=True)


def login(settings: Settings) -> tuple[str, str]:
    """User and password of the local Airflow."""
    return airflow_login(plan.secrets_folder(settings))


def _await_end_of_stopping(files: StackFiles) -> None:
    """A stack that is about to end is not one to attach to."""
    status, guard = files.status(), files.roll().guard
    stopping = status is not None and status.state in ("stopping", "down")
    if guard is not None and (stopping or _supervisor(files) is None):
        _watch_stop(files, guard, lambda _: None)


def _start(
    settings: Settings,
    files: StackFiles,
    *,
    only: list[str],
    environ: dict[str, str],
    on_progress: Callable[[str], None],
) -> None:
    boot = files.boot()
    ports = _choose_ports(
        settings, only=only, before=boot.ports if boot else {}, on_progress=on_progress
    )
    files.write_start_request(StartRequest(ports=ports, only=only))
    log = files.log("stack")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        guard = subprocess.Popen(
            [sys.executable, "-m", "infra.local_stack", "guard"],
            env=plan.environment(settings, environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _await_supervisor(files, guard)


def _choose_ports(
    settings: Settings,
    *,
    only: list[str],
    before: dict[str, int],
    on_progress: Callable[[str], None],
) -> dict[str, int]:
    """Ports for the services of this boot; the others keep theirs, unchecked.

    Raises:
        StackError: a service does not exist, misses something, or its port is busy.
    """
    wishes = plan.port_wishes(settings.stack)
    expected = {wish.name: before.get(wish.name, wish.usual) for wish in wishes}
    services = plan.services(settings, expected)
    names = {service.name for service in with_dependencies(services, only or _names(services))}
    chosen = choose_ports((wish for wish in wishes if wish.service in names), before=before)
    for name, port in chosen.items():
        asked = next(wish.asked for wish in wishes if wish.name == name)
        if port != (asked or expected[name]):
            on_progress(f"port {expected[name]} is busy: {name} takes {port}")
    return {**expected, **chosen}


def _names(services: list[Service]) -> list[str]:
    return [service.name for service in services]


def _await_supervisor(files: StackFiles, guard: "subprocess.Popen[bytes]") -> None:
    while _supervisor(files) is None:
        if guard.poll() is not None:
            raise StackError(f"the supervisor did not start:\n{_tail(files, 'stack')}")
        time.sleep(0.05)


def _check_only(files: StackFiles, only: list[str]) -> None:
    """A stack that runs a part is not made larger: that would be another stack.

    Raises:
        StackError: a service was asked for that the running stack does not have.
    """
    status = files.status()
    missing = set(only) - {service.name for service in status.services} if status else set()
    if missing:
        raise StackError(
            f"the running stack has no {', '.join(sorted(missing))}", hint="`eventide down` first"
        )


def _wait_until_ready(
    files: StackFiles, *, limit_s: float, on_progress: Callable[[str], None]
) -> StackStatus:
    deadline, seen = time.monotonic() + limit_s, dict[str, str]()
    while True:
        status = files.status()
        if _supervisor(files) is None or status is None or status.state == "down":
            raise StackError(f"the supervisor ended:\n{_tail(files, 'stack')}")
        _say_news(status, seen, on_progress)
        if status.is_ready:
            return status
        for service in status.services:
            if service.restarts >= TOO_MANY_STARTS and status.state == "starting":
                raise _gave_up(files, service)
        if time.monotonic() > deadline:
            raise _too_late(files, status, limit_s)
        time.sleep(0.1)


def _say_news(
    status: StackStatus, seen: dict[str, str], on_progress: Callable[[str], None]
) -> None:
    for service in status.services:
        if seen.get(service.name) == service.state:
            continue
        seen[service.name] = service.state
        if service.state in READY:
            on_progress(
                f"{service.seconds or 0:6.1f} s  {service.name:<14} {service.address}".rstrip()
            )
        elif service.state in ("restarting", "unhealthy"):
            on_progress(f"          {service.name:<14} {service.state}: {service.note}")


def _gave_up(files: StackFiles, service: ServiceStatus) -> StackError:
    return StackError(
        f"{service.name} does not start ({service.note}). Its last lines:\n"
        + _tail(files, service.name),
        hint=f"`eventide logs {service.name}` for more; the rest runs on: `eventide down` ends it",
    )


def _too_late(files: StackFiles, status: StackStatus, limit_s: float) -> StackError:
    late = [s for s in status.services if s.state not in READY]
    names = ", ".join(f"{s.name} ({s.state})" for s in late)
    return StackError(
        f"not healthy after {limit_s:.0f} s: {names}. The last lines of {late[0].name}:\n"
        + _tail(files, late[0].name),
        hint="`eventide status` shows how it goes on; `--timeout` waits longer",
    )


def _watch_stop(files: StackFiles, last: ProcessId, on_progress: Callable[[str], None]) -> None:
    deadline, seen = time.monotonic() + STOP_LIMIT_S, set[str]()
    while is_alive(last) and time.monotonic() < deadline:
        status = files.status()
        for service in status.services if status else []:
            if service.state == "stopped" and service.name not in seen:
                seen.add(service.name)
                on_progress(f"stopped {service.name}")
        time.sleep(0.1)


def _supervisor(files: StackFiles) -> ProcessId | None:
    """The one that runs now."""
    supervisor = files.roll().supervisor
    return supervisor if supervisor is not None and is_alive(supervisor) else None


def _tail(files: StackFiles, service: str) -> str:
    return "\n".join(f"  | {line}" for line in last_lines(files, service, _LOG_LINES))


def last_lines(files: StackFiles, service: str, count: int) -> list[str]:
    """Of the service's log; empty when it has none."""
    file = files.log(service)
    if not file.exists():
        return []
    return file.read_text(errors="replace").splitlines()[-count:]


@contextmanager
def _one_at_a_time(files: StackFiles) -> Iterator[None]:
    """Two `up` at once: the second waits, and attaches."""
    files.lock.parent.mkdir(parents=True, exist_ok=True)
    with files.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

"""Starts the supervisor under its reaper, and waits until all services are healthy."""

import subprocess
import sys
from collections.abc import Callable

from infra.folder_names import unusable_for_tables
from infra.local_stack import definition
from infra.local_stack.environment import stack_environment, unusable_proxies
from infra.local_stack.logs import last_lines
from infra.local_stack.ports import choose_ports
from infra.local_stack.preflight import check_state_folder, unusable_for_airflow
from infra.local_stack.process_table import ProcessId, is_alive
from infra.local_stack.service import StackError, with_dependencies
from infra.local_stack.state_files import (
    READY,
    ServiceStatus,
    StackFiles,
    StackStatus,
    StartRequest,
)
from infra.locks import is_held
from infra.process.waiting import wait_until
from infra.settings import Settings

TOO_MANY_RESTARTS = 4
"""How often a service may die during the start before `up` fails."""
_LOG_LINES = 25


def running_supervisor(files: StackFiles) -> ProcessId | None:
    """The supervisor, when it is alive."""
    supervisor = files.processes().supervisor
    return supervisor if supervisor is not None and is_alive(supervisor) else None


def is_running(files: StackFiles) -> bool:
    """Whether a reaper or a supervisor is there: by the lock that they hold, and by the table."""
    return is_held(files.running) or running_supervisor(files) is not None


def check_machine(
    settings: Settings, environ: dict[str, str], on_progress: Callable[[str], None]
) -> None:
    """Check what must hold before anything starts, and make the state folder.

    Raises:
        StackError: the stack cannot run here.
    """
    env = stack_environment(environ, state=settings.state_dir)
    check_state_folder(settings.state_dir, env)
    dags, tables = str(settings.stack.dags), settings.offline_store
    if not settings.stack.airflow and (reason := unusable_for_airflow(dags, env)):
        raise StackError(f"the folder of the DAG files {dags!r} {reason}", hint="move it")
    if "://" not in tables and (reason := unusable_for_tables(tables)):
        hint = "set EVENTIDE_STATE_DIR, or EVENTIDE_OFFLINE_STORE alone, to another folder"
        raise StackError(f"the folder of the offline store {tables!r} {reason}", hint=hint)
    if proxies := unusable_proxies(environ):
        on_progress(f"{' and '.join(proxies)}: a SOCKS proxy, which no service here can use")


def start_supervisor(
    settings: Settings,
    files: StackFiles,
    *,
    only: list[str],
    environ: dict[str, str],
    on_progress: Callable[[str], None],
) -> None:
    """Start the reaper, which starts the supervisor; returns when that runs.

    Raises:
        StackError: a service does not exist, a port is busy, or the supervisor does not start.
    """
    previous = files.start_request()
    ports = _choose_ports(
        settings,
        only=only,
        previous=previous.ports if previous else {},
        on_progress=on_progress,
    )
    files.write_start_request(StartRequest(ports=ports, only=only))
    reaper = _start_reaper(files, env=stack_environment(environ, state=settings.state_dir))

    def has_started() -> bool:
        if running_supervisor(files) is not None:
            return True
        if reaper.poll() is not None:
            raise StackError(f"the supervisor did not start:\n{_tail(files, 'stack')}")
        return False

    wait_until(has_started, pause_s=0.05)


def wait_until_ready(
    files: StackFiles, *, limit_s: float, on_progress: Callable[[str], None]
) -> StackStatus:
    """Wait until every service is healthy or done, and report each change; the status then.

    Raises:
        StackError: a service keeps dying, the supervisor ended, or the limit passed.
    """
    reported = dict[str, str]()

    def is_ready() -> bool:
        status = _status_of_running(files)
        _report_changes(status, reported, on_progress)
        if not status.is_ready and status.state == "starting":
            _check_restarts(files, status)
        return status.is_ready

    if not wait_until(is_ready, limit_s=limit_s):
        raise _too_late(files, _status_of_running(files), limit_s)
    return _status_of_running(files)


def _choose_ports(
    settings: Settings,
    *,
    only: list[str],
    previous: dict[str, int],
    on_progress: Callable[[str], None],
) -> dict[str, int]:
    """Ports for the services that are started now; the others keep theirs, unchecked.

    Raises:
        StackError: a service does not exist, or a fixed port is busy.
    """
    requests = definition.port_requests(settings.stack)
    expected = {r.name: previous.get(r.name, r.default) for r in requests}
    services = definition.services(settings, expected)
    starting = {
        service.name for service in with_dependencies(services, only or [s.name for s in services])
    }
    chosen = choose_ports((r for r in requests if r.service in starting), previous=previous)
    fixed = {r.name: r.fixed for r in requests}
    for name, port in chosen.items():
        if port != (fixed[name] or expected[name]):
            on_progress(f"port {expected[name]} is busy: {name} takes {port}")
    return {**expected, **chosen}


def _start_reaper(files: StackFiles, *, env: dict[str, str]) -> "subprocess.Popen[bytes]":
    """In a session of its own, so that it outlives the command that starts it."""
    log = files.log("stack")
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "infra.local_stack", "reaper"],
            env=env,
            cwd=files.state,  # one that stays, wherever `up` was typed
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _status_of_running(files: StackFiles) -> StackStatus:
    status = files.status()
    if running_supervisor(files) is None or status is None or status.state == "down":
        raise StackError(f"the supervisor ended:\n{_tail(files, 'stack')}")
    return status


def _report_changes(
    status: StackStatus, reported: dict[str, str], on_progress: Callable[[str], None]
) -> None:
    """Report the services whose state is not the one that was `reported` last."""
    for service in status.services:
        if reported.get(service.name) == service.state:
            continue
        reported[service.name] = service.state
        if service.state in READY:
            on_progress(
                f"{service.seconds or 0:6.1f} s  {service.name:<14} {service.address}".rstrip()
            )
        elif service.state in ("restarting", "unhealthy"):
            on_progress(f"          {service.name:<14} {service.state}: {service.note}")


def _check_restarts(files: StackFiles, status: StackStatus) -> None:
    for service in status.services:
        if service.restarts >= TOO_MANY_RESTARTS:
            raise _keeps_dying(files, service)


def _keeps_dying(files: StackFiles, service: ServiceStatus) -> StackError:
    return StackError(
        f"{service.name} does not start ({service.note}). Its last lines:\n"
        + _tail(files, service.name),
        hint=f"see `eventide logs {service.name}`; `eventide down` ends the other services",
    )


def _too_late(files: StackFiles, status: StackStatus, limit_s: float) -> StackError:
    late = [s for s in status.services if s.state not in READY] or status.services
    names = ", ".join(f"{s.name} ({s.state})" for s in late)
    return StackError(
        f"not healthy after {limit_s:.0f} s: {names}. The last lines of {late[0].name}:\n"
        + _tail(files, late[0].name),
        hint="`eventide status` shows the progress; `--timeout` waits longer",
    )


def _tail(files: StackFiles, service: str) -> str:
    return "\n".join(f"  | {line}" for line in last_lines(files, service, _LOG_LINES))

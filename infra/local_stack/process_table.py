"""Processes: started so that they never outlive us, and ended with all that they started."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec
import psutil

from infra.local_stack.service import Service
from infra.process.waiting import wait_until

K = TypeVar("K")
_EXEC_CHILD = str(Path(__file__).with_name("exec_child.py"))
PROC = Path("/proc")
_STATE, _START_TICKS = 0, 19  # of the fields behind the name in /proc/PID/stat: see proc(5)
_SAME_START_S = 1.0


class ProcessId(msgspec.Struct, frozen=True, order=True, omit_defaults=True):
    """The identity of a process: a pid is used again, a pid with its start is not.

    No clock that can be set has a part in it, so it stays the same when the wall clock steps.
    """

    pid: int
    started: float
    """Linux: clock ticks since the boot. Elsewhere, and in records of version 0.1.0, seconds since
    1970: macOS keeps the time that its clock showed when the process started."""
    boot: str = ""
    """Linux: the id of the boot, which a start in ticks belongs to."""


def start(service: Service, *, log: Path, env: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Start the service's command in a session of its own; its output is appended to `log`.

    Call from a thread that lives as long as the process shall: its end ends the process.
    """
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    uid = -1 if service.uid is None else service.uid
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", _EXEC_CHILD, str(os.getpid()), str(uid), *service.command],
            env={**env, **service.env},
            cwd=service.cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def identify(pid: int, *, proc: Path = PROC) -> ProcessId | None:
    """The process that has this pid now; None when there is none, or only a zombie."""
    return _identify_in(proc, pid) if sys.platform == "linux" else _identify_by_psutil(pid)


def is_alive(process: ProcessId, *, proc: Path = PROC) -> bool:
    """Whether this very process still runs."""
    if sys.platform == "linux" and not process.boot:  # recorded by version 0.1.0
        now = _identify_by_psutil(process.pid)
        return now is not None and abs(now.started - process.started) < _SAME_START_S
    return identify(process.pid, proc=proc) == process


def _identify_in(proc: Path, pid: int) -> ProcessId | None:
    try:
        stat = (proc / str(pid) / "stat").read_text(errors="replace")
        boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return None if fields[_STATE] in "ZX" else ProcessId(pid, float(fields[_START_TICKS]), boot)


def _identify_by_psutil(pid: int) -> ProcessId | None:
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            return ProcessId(pid, process.create_time())
    except psutil.NoSuchProcess:
        return None


def family(leaders: Iterable[ProcessId]) -> set[ProcessId]:
    """The leaders, their descendants, and all in the sessions that they lead, orphans included."""
    return set().union(*families({leader: leader for leader in leaders}).values())


def families(leaders: Mapping[K, ProcessId]) -> dict[K, set[ProcessId]]:
    """The family of each leader, from one look at the process table."""
    if not leaders:
        return {}
    parents = {process.pid: process.info["ppid"] for process in psutil.process_iter(["ppid"])}
    sessions: dict[int, set[int]] = {}
    for pid in parents:
        sessions.setdefault(_session(pid), set()).add(pid)
    return {key: _family(leader, parents, sessions) for key, leader in leaders.items()}


def _family(
    leader: ProcessId, parents: Mapping[int, int], sessions: Mapping[int, set[int]]
) -> set[ProcessId]:
    roots = {leader.pid} if is_alive(leader) else set[int]()
    for pid in sessions.get(leader.pid, set()) - roots:
        member = identify(pid)
        # One that is older than the leader belongs to an earlier session under the same number.
        if member is not None and _is_younger(member, than=leader):
            roots.add(pid)
    members = (identify(pid) for pid in descendants(roots, parents) | roots)
    return {member for member in members if member is not None}


def _is_younger(member: ProcessId, *, than: ProcessId) -> bool:
    return member.boot == than.boot and member.started >= than.started


def descendants(roots: set[int], parents: Mapping[int, int]) -> set[int]:
    """The pids below the roots, given the parent of each pid."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    below: set[int] = set()
    todo = list(roots)
    while todo:
        for child in children.get(todo.pop(), []):
            if child not in below and child not in roots:
                below.add(child)
                todo.append(child)
    return below


def kill_all(leaders: Iterable[ProcessId], *, limit_s: float = 10.0) -> set[ProcessId]:
    """SIGKILL the family of the leaders until none is left; what was killed.

    Repeats, for a process may fork between the look and the kill.
    """
    leaders, killed = list(leaders), set[ProcessId]()

    def none_left() -> bool:
        alive = family(leaders)
        for process in alive:
            if is_alive(process):
                send_kill(process)
        killed.update(alive)
        return not alive

    wait_until(none_left, limit_s=limit_s, pause_s=0.02)
    return killed


def send_kill(process: ProcessId) -> None:
    """Send SIGKILL; a process that has just ended is no error."""
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return -1

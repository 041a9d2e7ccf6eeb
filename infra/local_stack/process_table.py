"""Processes: started so that they never outlive us, and ended with all that they started."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
import psutil

from infra.local_stack.service import Service

K = TypeVar("K")
_LAUNCH = str(Path(__file__).with_name("exec_child.py"))


class ProcessId(msgspec.Struct, frozen=True, order=True):
    """A process for good: pids come again, a pid with its start time does not."""

    pid: int
    started: float
    """Seconds since 1970, as psutil gives it."""


def start(service: Service, *, log: Path, env: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Start the service's command in a session of its own; its output is appended to `log`.

    Call from a thread that lives as long as the process shall: its end ends the process.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    uid = -1 if service.uid is None else service.uid
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", _LAUNCH, str(os.getpid()), str(uid), *service.command],
            env={**env, **service.env},
            cwd=service.cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def identify(pid: int) -> ProcessId | None:
    """The process that has this pid now; None when there is none, or only its remains."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            return ProcessId(pid, process.create_time())
    except psutil.NoSuchProcess:
        return None


def is_alive(process: ProcessId) -> bool:
    """Whether this very process still runs."""
    return identify(process.pid) == process


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
        me = identify(pid)
        if me is not None and me.started >= leader.started:
            roots.add(pid)
    return {me for pid in descendants(roots, parents) | roots if (me := identify(pid))}


def descendants(roots: set[int], parents: Mapping[int, int]) -> set[int]:
    """The pids below the roots, given the parent of each pid."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    todo = list(roots)
    while todo:
        for child in children.get(todo.pop(), []):
            if child not in found and child not in roots:
                found.add(child)
                todo.append(child)
    return found


def kill_all(leaders: Iterable[ProcessId], *, limit_s: float = 10.0) -> set[ProcessId]:
    """SIGKILL the family of the leaders until none is left; what was killed.

    Repeats, for a process may fork between the look and the kill.
    """
    leaders, killed = list(leaders), set[ProcessId]()
    deadline = time.monotonic() + limit_s
    while (alive := family(leaders)) and time.monotonic() < deadline:
        for process in alive:
            if is_alive(process):
                _send(process.pid, signal.SIGKILL)
        killed |= alive
        time.sleep(0.02)
    return killed


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return -1


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # ended by itself: what we wanted

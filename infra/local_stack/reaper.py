"""The reaper: starts the supervisor and, however that ends, ends every process of the stack.

On Linux it adopts the orphans below it, so not even a process that left its session gets away.
Elsewhere it goes by the sessions and processes that the supervisor wrote down.
"""

import ctypes
import os
import signal
import subprocess
import sys
from typing import Any

import psutil

from infra.local_stack.process_table import ProcessId, family, identify, send_kill
from infra.local_stack.state_files import ProcessTable, StackFiles
from infra.locks import hold
from infra.process.waiting import wait_until

_PR_SET_CHILD_SUBREAPER = 36
KILL_LIMIT_S = 20.0
EXIT_TAKEN = 3
_PAUSE_S = 0.02


def run_reaper(command: list[str], files: StackFiles, *, log: Any) -> int:
    """Run the supervisor's command to its end, then end what is left; the command's exit code."""
    lock = hold(files.running)
    if lock is None:
        log.error("another_stack_runs", folder=str(files.state))
        return EXIT_TAKEN
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    # The supervisor shares the lock: whichever of the two dies last gives it up.
    supervisor = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(lock,))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: supervisor.send_signal(signal.SIGTERM))
    code = _reap_until_exit_of(supervisor.pid)
    if code:
        log.warning("supervisor_ended", code=code)
    if killed := _kill_leftovers(files.processes()):
        log.warning("leftovers_killed", processes=len(killed))
    files.clear_processes()
    files.endpoints.unlink(missing_ok=True)
    return code


def _reap_until_exit_of(pid: int) -> int:
    """Wait for the supervisor, and meanwhile for every orphan that we adopted; its exit code."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            return os.waitstatus_to_exitcode(status)


def _kill_leftovers(processes: ProcessTable) -> set[ProcessId]:
    """Kill until nothing of the stack is left; what was killed.

    Repeats, for a process may fork between the look and the kill.
    """
    killed = set[ProcessId]()

    def nothing_left() -> bool:
        alive = _alive(processes)
        for process in alive:
            send_kill(process)
        killed.update(alive)
        _reap_children()
        return not alive

    wait_until(nothing_left, limit_s=KILL_LIMIT_S, pause_s=_PAUSE_S)
    return killed


def _alive(processes: ProcessTable) -> set[ProcessId]:
    """Our own descendants, and what the supervisor wrote down with its descendants; not us."""
    below_us = (identify(child.pid) for child in psutil.Process().children(recursive=True))
    recorded = family([*processes.session_leaders, *processes.descendants])
    return {p for p in (*below_us, *recorded) if p is not None and p.pid != os.getpid()}


def _reap_children() -> None:
    """Collect children that have ended, so that they do not stay as zombies."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return  # no child is left

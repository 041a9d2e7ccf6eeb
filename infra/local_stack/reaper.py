"""The guard: starts the supervisor and, however that ends, ends every process of the stack.

On Linux it adopts the orphans below it, so not even a process that left its session gets away.
Elsewhere it goes by the sessions and processes that the supervisor wrote down.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import psutil

from infra.local_stack.process_table import ProcessId, family, identify
from infra.local_stack.state_files import StackFiles

_PR_SET_CHILD_SUBREAPER = 36
LIMIT_S = 20.0


def guard(command: list[str], files: StackFiles, *, log: Callable[[str], None]) -> int:
    """Run the supervisor's command to its end, then leave nothing; its exit code."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    supervisor = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: supervisor.send_signal(signal.SIGTERM))
    code = _reap_until(supervisor.pid)
    if code:
        log(f"supervisor_ended code={code}")
    killed = _sweep(files)
    if killed:
        log(f"swept processes={killed}")
    files.clear_processes()
    files.endpoints.unlink(missing_ok=True)
    return code


def _reap_until(pid: int) -> int:
    """Wait for the supervisor, and meanwhile for every orphan that we adopted."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            return os.waitstatus_to_exitcode(status)


def _sweep(files: StackFiles) -> int:
    """Kill until nothing of the stack is left; how many."""
    roll = files.roll()
    me, killed = identify(os.getpid()), set[ProcessId]()
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        mine = {identify(child.pid) for child in psutil.Process().children(recursive=True)}
        alive = {one for one in mine if one} | family([*roll.leaders, *roll.others])
        alive -= {me} if me else set()
        if not alive:
            break
        for process in alive:
            _kill(process)
        killed |= alive
        _reap_the_dead()
        time.sleep(0.02)
    return len(killed)


def _kill(process: ProcessId) -> None:
    try:
        os.kill(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # it ended by itself


def _reap_the_dead() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return  # no child is left

"""Become the given command, bound to the life of the process that started us.

    python -I -S exec_child.py PARENT_PID UID COMMAND...        (UID -1: stay who we are)

On Linux the kernel then ends the command (SIGKILL) when the parent vanishes, however it ends.
A program of its own, not a hook between fork and exec: the parent has threads, and such hooks
may deadlock there. Imports nothing but the standard library, for it runs before every server.
"""

import ctypes
import os
import pwd
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, uid: int, command: list[str]) -> None:
    """Never returns."""
    if uid >= 0:
        os.setgroups([])
        os.setgid(pwd.getpwuid(uid).pw_gid)
        os.setuid(uid)
    if sys.platform == "linux":  # after setuid, which clears it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it vanished before the kernel knew
        sys.exit(1)
    os.execvpe(command[0], command, os.environ)  # noqa: S606, TID251


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])

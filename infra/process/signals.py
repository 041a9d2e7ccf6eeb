"""Ends a process at SIGTERM and SIGINT."""

import os
import signal
import threading
from types import FrameType

EXIT_SECOND_SIGNAL = 130


def stop_at_signal() -> threading.Event:
    """An event that the first SIGTERM or SIGINT sets; the second one ends the process at once.

    Call it in the main thread. A handler written in Python runs in that thread alone, and one that
    waits for another thread may never hear of a signal that the kernel gave to a third. So a thread
    reads the signals' numbers from a pipe, into which the interpreter writes them wherever they
    arrive (`signal.set_wakeup_fd`).
    """
    stop = threading.Event()
    arrived, arriving = os.pipe()
    os.set_blocking(arriving, False)
    signal.set_wakeup_fd(arriving, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ignore)
    threading.Thread(
        target=_watch_signals, args=(arrived, stop), name="signals", daemon=True
    ).start()
    return stop


def _ignore(number: int, frame: FrameType | None) -> None:
    """Replaces the default, which would end the process; the pipe reports the signal."""


def _watch_signals(arrived: int, stop: threading.Event) -> None:
    os.read(arrived, 1)
    stop.set()
    os.read(arrived, 1)
    os._exit(EXIT_SECOND_SIGNAL)

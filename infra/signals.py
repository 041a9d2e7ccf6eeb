"""Ending a process when it is asked to."""

import os
import signal
import threading
from types import FrameType

EXIT_SECOND_SIGNAL = 130


def stop_at_signal() -> threading.Event:
    """An event that the first SIGTERM or SIGINT sets; the second one ends the process at once.

    Call it in the main thread, and keep that thread out of long calls: it runs the handlers.
    """
    stop = threading.Event()
    asked = False

    def on_signal(*_: int | FrameType | None) -> None:
        # A second signal may come while the first one is inside `stop.set()`, which holds a lock.
        nonlocal asked
        if asked:
            os._exit(EXIT_SECOND_SIGNAL)
        asked = True
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    return stop

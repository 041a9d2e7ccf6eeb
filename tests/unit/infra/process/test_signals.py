"""A process that is asked to end, wherever the kernel delivers the request."""

import signal
import subprocess
import sys
from textwrap import dedent

import pytest

from infra.process.signals import EXIT_SECOND_SIGNAL

# The main thread waits for the worker without a limit, and each signal arrives in a third thread.
PROGRAM = dedent("""
    import signal, sys, threading
    from infra.process.signals import stop_at_signal

    stop = stop_at_signal()

    def send():
        for number in sys.argv[2:]:
            signal.pthread_kill(threading.get_ident(), int(number))
            stop.wait()

    def work():
        stop.wait()
        if sys.argv[1] == "hangs":
            threading.Event().wait()

    worker = threading.Thread(target=work)
    worker.start()
    threading.Thread(target=send).start()
    worker.join()
    print("ended in order")
""")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_another_thread_gets_ends_a_main_thread_that_waits(number: int) -> None:
    ended = run("works", number)
    assert (ended.returncode, ended.stdout) == (0, "ended in order\n"), ended.stderr


def test_the_second_signal_ends_what_does_not_heed_the_first() -> None:
    ended = run("hangs", signal.SIGTERM, signal.SIGINT)
    assert ended.returncode == EXIT_SECOND_SIGNAL, ended.stderr


def run(worker: str, *numbers: int) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, worker, *map(str, numbers)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

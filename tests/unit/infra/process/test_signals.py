"""A process ends on a signal, whichever thread receives it."""

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
def test_a_signal_in_another_thread_ends_a_waiting_main_thread(number: int) -> None:
    completed = run("works", number)
    assert (completed.returncode, completed.stdout) == (0, "ended in order\n"), completed.stderr


def test_a_second_signal_ends_a_process_that_ignores_the_first() -> None:
    completed = run("hangs", signal.SIGTERM, signal.SIGINT)
    assert completed.returncode == EXIT_SECOND_SIGNAL, completed.stderr


def run(worker: str, *numbers: int) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, worker, *map(str, numbers)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

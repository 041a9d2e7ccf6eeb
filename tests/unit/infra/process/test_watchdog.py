"""A loop that hangs ends its process."""

import subprocess
import sys
import threading

from infra.process.watchdog import EXIT_HUNG, Watchdog


def test_a_hanging_loop_is_detected() -> None:
    hung = threading.Event()
    with Watchdog(0.1, on_hang=hung.set) as watchdog:
        assert hung.wait(10)
        assert not watchdog.alive


def test_a_loop_with_heartbeats_is_alive() -> None:
    hung = threading.Event()
    pause = threading.Event()
    with Watchdog(0.5, on_hang=hung.set) as watchdog:
        for _ in range(40):
            watchdog.heartbeat()
            pause.wait(0.02)
        assert watchdog.alive
    assert not hung.is_set()


def test_a_hanging_process_exits_with_the_documented_code() -> None:
    program = (
        "import threading; from infra.process.watchdog import Watchdog;"
        "Watchdog(0.1); threading.Event().wait(60)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == EXIT_HUNG

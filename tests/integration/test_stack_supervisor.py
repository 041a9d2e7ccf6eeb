"""Reaper and supervisor over small processes that behave badly: quick, and no server is needed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local_stack.lifecycle import end_leftovers
from infra.local_stack.process_table import ProcessId, identify, is_alive, kill_all
from infra.local_stack.state_files import StackFiles
from tests.support.waiting import wait_until

pytestmark = pytest.mark.fault

# `base` is meek. `wild` ignores SIGTERM and starts a child that leaves its session.
SUPERVISOR = """
import os, signal, sys, structlog
from pathlib import Path
from infra.local_stack.state_files import StackFiles
from infra.local_stack.service import Service
from infra.local_stack.supervisor import Supervisor

SLEEP = "import time; time.sleep(600)"
WILD = '''
import signal, subprocess, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
child = subprocess.Popen(sleep, start_new_session=True)
Path(sys.argv[1]).write_text(str(child.pid))
time.sleep(600)
'''
state = Path(sys.argv[1])
escaped = state / "escaped"
services = [
    Service(name="base", command=(sys.executable, "-c", SLEEP)),
    Service(
        name="wild",
        command=(sys.executable, "-c", WILD, str(escaped)),
        healthy=lambda _: escaped.exists(),
        after=("base",),
        stop_limit_s=1.0,
    ),
]
supervisor = Supervisor(
    services, StackFiles(state), env=dict(os.environ), log=structlog.get_logger()
)
signal.signal(signal.SIGTERM, lambda *_: supervisor.stop())
supervisor.run()
"""
REAPER = """
import sys, structlog
from pathlib import Path
from infra.local_stack.state_files import StackFiles
from infra.local_stack.reaper import run_reaper

command = [sys.executable, "-c", sys.argv[2], sys.argv[1]]
run_reaper(command, StackFiles(Path(sys.argv[1])), log=structlog.get_logger())
"""


class Small:
    """A stack of `base` and `wild`, up and written down."""

    def __init__(self, state: Path) -> None:
        self.files = StackFiles(state)
        self._escaped = state / "escaped"
        with (state / "out").open("wb") as output:
            self.reaper = subprocess.Popen(
                [sys.executable, "-c", REAPER, str(state), SUPERVISOR],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(self._is_up, what="the small stack is up")
        self.everyone = set(self.files.processes().all())
        assert len(self.everyone) == 5

    def kill(self, process: ProcessId | None) -> None:
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)

    def leader(self, name: str) -> ProcessId:
        status = self.files.status()
        assert status is not None
        (pid,) = [service.pid for service in status.services if service.name == name]
        assert pid is not None
        found = identify(pid)
        assert found is not None
        return found

    def escaped(self) -> ProcessId | None:
        return identify(int(self._escaped.read_text()))

    def await_end(self) -> None:
        self.reaper.wait(30)
        assert not [process for process in self.everyone if is_alive(process)]

    def _is_up(self) -> bool:
        status = self.files.status()
        ready = status is not None and status.is_ready
        return ready and self.escaped() in self.files.processes().descendants


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    small = Small(tmp_path)
    yield small
    end_leftovers(small.files, print)
    small.reaper.wait(30)


def test_a_killed_supervisor_leaves_nothing_not_even_who_left_the_session(small: Small) -> None:
    small.kill(small.files.processes().supervisor)

    small.await_end()
    assert small.files.processes().all() == []


def test_a_killed_reaper_makes_the_supervisor_stop_all_in_order(small: Small) -> None:
    small.kill(small.files.processes().reaper)

    small.reaper.wait(30)
    wait_until(lambda: not any(map(is_alive, small.everyone)), what="all are gone")
    status = small.files.status()
    assert status is not None
    assert {service.state for service in status.services} == {"stopped"}


def test_asked_to_end_it_ends_in_order_and_kills_who_does_not_listen(
    small: Small, tmp_path: Path
) -> None:
    small.reaper.send_signal(signal.SIGTERM)

    small.await_end()
    said = (tmp_path / "out").read_text()
    assert "killed_for_not_ending" in said
    stopped = [line for line in said.splitlines() if "state=stopped" in line]
    assert ["wild" in line for line in stopped] == [True, False]


def test_when_reaper_and_supervisor_are_killed_the_next_command_ends_the_rest(small: Small) -> None:
    recorded, escaped = small.files.processes(), small.escaped()
    small.kill(recorded.reaper)
    small.kill(recorded.supervisor)

    if sys.platform == "linux":
        wait_until(
            lambda: not any(map(is_alive, recorded.session_leaders)),
            what="the kernel took the servers",
        )
    said: list[str] = []
    end_leftovers(small.files, said.append)
    assert "that a crash had left" in said[0]
    assert escaped is not None
    assert not is_alive(escaped)


def test_a_killed_server_comes_back_without_what_it_had_started(small: Small) -> None:
    first, escaped = small.leader("wild"), small.escaped()
    small.kill(first)

    wait_until(lambda: small.escaped() not in (None, escaped), what="it started its child anew")
    assert escaped is not None
    wait_until(lambda: not is_alive(escaped), what="the old child is gone")
    wait_until(lambda: small.leader("wild") != first, what="status shows the new process")


def test_a_stranger_with_a_pid_of_old_is_not_touched(tmp_path: Path) -> None:
    stranger = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
    )
    try:
        me = identify(stranger.pid)
        assert me is not None
        former = ProcessId(me.pid, me.started + 100.0)
        kill_all([former])
        assert is_alive(me)
    finally:
        stranger.kill()
        stranger.wait()

"""Reaper and supervisor over small misbehaving processes: fast, without a real server."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local_stack import lifecycle
from infra.local_stack.lifecycle import end_leftovers
from infra.local_stack.process_table import ProcessId, identify, is_alive, kill_all
from infra.local_stack.service import StackError
from infra.local_stack.state_files import StackFiles
from infra.locks import is_held
from infra.settings import Settings
from tests.support.waiting import wait_until

pytestmark = pytest.mark.fault

# `base` behaves well. `wild` ignores SIGTERM and starts a child that leaves its session.
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
    """A running stack of `base` and `wild`, with its process table on disk."""

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
        self.processes = set(self.files.processes().all())
        assert len(self.processes) == 5

    def kill(self, process: ProcessId | None) -> None:
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)

    def leader(self, name: str) -> ProcessId:
        status = self.files.status()
        assert status is not None
        (pid,) = [service.pid for service in status.services if service.name == name]
        assert pid is not None
        process = identify(pid)
        assert process is not None
        return process

    def escaped(self) -> ProcessId | None:
        return identify(int(self._escaped.read_text()))

    def await_end(self) -> None:
        self.reaper.wait(30)
        assert not [process for process in self.processes if is_alive(process)]

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


def test_after_a_killed_supervisor_every_process_ends_even_in_other_sessions(small: Small) -> None:
    small.kill(small.files.processes().supervisor)

    small.await_end()
    assert small.files.processes().all() == []


def test_after_a_killed_reaper_the_supervisor_stops_all_in_order(small: Small) -> None:
    small.kill(small.files.processes().reaper)

    small.reaper.wait(30)
    wait_until(lambda: not any(map(is_alive, small.processes)), what="all are gone")
    status = small.files.status()
    assert status is not None
    assert {service.state for service in status.services} == {"stopped"}


def test_on_sigterm_services_end_in_order_and_those_that_ignore_it_are_killed(
    small: Small, tmp_path: Path
) -> None:
    small.reaper.send_signal(signal.SIGTERM)

    small.await_end()
    output = (tmp_path / "out").read_text()
    assert "killed_for_not_ending" in output
    stopped = [line for line in output.splitlines() if "state=stopped" in line]
    assert ["wild" in line for line in stopped] == [True, False]


def test_when_reaper_and_supervisor_are_killed_the_next_command_ends_the_rest(small: Small) -> None:
    recorded, escaped = small.files.processes(), small.escaped()
    small.kill(recorded.reaper)
    small.kill(recorded.supervisor)

    if sys.platform == "linux":
        wait_until(
            lambda: not any(map(is_alive, recorded.session_leaders)),
            what="the kernel killed the servers",
        )
    messages: list[str] = []
    end_leftovers(small.files, messages.append)
    assert "that a crash had left" in messages[0]
    assert escaped is not None
    assert not is_alive(escaped)


def test_a_killed_server_restarts_and_its_old_children_end(small: Small) -> None:
    first, escaped = small.leader("wild"), small.escaped()
    small.kill(first)

    wait_until(lambda: small.escaped() not in (None, escaped), what="it has started a new child")
    assert escaped is not None
    wait_until(lambda: not is_alive(escaped), what="the old child is gone")
    wait_until(lambda: small.leader("wild") != first, what="status shows the new process")


def damage(file: Path) -> None:
    file.write_bytes(b"")


def cleaned(small: Small) -> list[str]:
    return lifecycle.clean(Settings(state_dir=small.files.state), on_progress=print)


def test_nothing_is_deleted_while_a_stack_runs_whatever_its_files_say(small: Small) -> None:
    for _ in range(3):  # the supervisor repairs the file meanwhile
        damage(small.files.folder / "processes.json")
        with pytest.raises(StackError, match="the stack is running"):
            cleaned(small)
    assert all(map(is_alive, small.processes))
    wait_until(lambda: bool(small.files.processes().all()), what="the table is written again")


def test_a_damaged_file_of_a_running_stack_is_written_again(small: Small) -> None:
    for name in ("processes.json", "status.json"):
        damage(small.files.folder / name)

    report = lifecycle.report(Settings(state_dir=small.files.state))  # it waits for the table

    assert report.running
    wait_until(lambda: small.files.status() is not None, what="the status is back")


def test_a_stack_whose_process_table_is_damaged_is_stopped(small: Small) -> None:
    damage(small.files.folder / "processes.json")

    lifecycle.down(Settings(state_dir=small.files.state), on_progress=print)

    small.await_end()
    assert not is_held(small.files.running)


def test_the_lock_of_a_stack_is_held_until_both_reaper_and_supervisor_have_ended(
    small: Small,
) -> None:
    small.kill(small.files.processes().reaper)
    small.reaper.wait(30)
    assert is_held(small.files.running)  # the supervisor stops the services, which takes a second

    wait_until(lambda: not is_held(small.files.running), what="the supervisor has ended")


def test_what_a_crash_left_is_ended_before_its_files_are_deleted(small: Small) -> None:
    recorded, escaped = small.files.processes(), small.escaped()
    assert escaped is not None
    small.kill(recorded.reaper)
    small.kill(recorded.supervisor)
    wait_until(lambda: not is_held(small.files.running), what="both are gone")

    assert "stack" in cleaned(small)

    assert not is_alive(escaped)
    assert list(small.files.state.iterdir()) == []


def test_a_second_reaper_starts_nothing(small: Small) -> None:
    other = subprocess.run(
        [sys.executable, "-c", REAPER, str(small.files.state), "raise SystemExit('started')"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "another_stack_runs" in other.stdout
    assert "started" not in other.stderr
    assert all(map(is_alive, small.processes))


def test_a_foreign_process_with_a_reused_pid_is_not_killed(tmp_path: Path) -> None:
    foreign = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
    )
    try:
        identity = identify(foreign.pid)
        assert identity is not None
        former = ProcessId(identity.pid, identity.started + 100.0)
        kill_all([former])
        assert is_alive(identity)
    finally:
        foreign.kill()
        foreign.wait()

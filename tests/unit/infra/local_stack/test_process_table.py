"""The identity of a process: the same whatever the wall clock does, another after a reboot."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from infra.local_stack.process_table import ProcessId, identify, is_alive

STEPS_S = [s * sign for s in (1, 11 * 60, 3 * 86_400) for sign in (1, -1)]
BOOTED_S = 1_700_000_000
NAME = "a) b (c"  # a name may hold anything


class Machine:
    """The part of /proc that says when it was booted and what runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "sys/kernel/random").mkdir(parents=True)
        self.boot("first")
        self.wall_clock(0)

    def boot(self, boot_id: str) -> None:
        (self.root / "sys/kernel/random/boot_id").write_text(f"{boot_id}\n")

    def wall_clock(self, step_s: int) -> None:
        """The kernel gives the moment of the boot by the clock of now."""
        (self.root / "stat").write_text(f"btime {BOOTED_S + step_s}\n")

    def run(self, pid: int, *, ticks: int, state: str = "S") -> None:
        (self.root / str(pid)).mkdir(exist_ok=True)
        fields = [state, "1", *["0"] * 17, str(ticks), *["0"] * 30]
        (self.root / str(pid) / "stat").write_text(f"{pid} ({NAME}) {' '.join(fields)}\n")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("step_s", STEPS_S)
def test_a_process_is_the_same_after_a_step_of_the_wall_clock(
    machine: Machine, step_s: int
) -> None:
    machine.run(70, ticks=4_711)
    recorded = identify(70, proc=machine.root)

    machine.wall_clock(step_s)

    assert recorded == ProcessId(70, 4_711, "first")
    assert is_alive(recorded, proc=machine.root)


def test_a_reused_pid_is_another_process(machine: Machine) -> None:
    machine.run(70, ticks=4_711)
    recorded = identify(70, proc=machine.root)
    assert recorded is not None

    machine.run(70, ticks=4_712)
    assert not is_alive(recorded, proc=machine.root)


def test_a_process_of_an_earlier_boot_does_not_live(machine: Machine) -> None:
    machine.run(70, ticks=4_711)
    recorded = identify(70, proc=machine.root)
    assert recorded is not None

    machine.boot("second")
    assert not is_alive(recorded, proc=machine.root)


def test_a_zombie_and_a_missing_process_do_not_live(machine: Machine) -> None:
    machine.run(70, ticks=1, state="Z")
    assert identify(70, proc=machine.root) is None
    assert identify(71, proc=machine.root) is None


def test_a_running_process_is_identified_and_its_end_is_noticed() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        identity = identify(child.pid)
        assert identity is not None
        assert is_alive(identity)
    finally:
        child.kill()
        child.wait()
    assert not is_alive(identity)


def test_a_process_that_version_0_1_0_recorded_is_known() -> None:
    started = psutil.Process(os.getpid()).create_time()

    assert is_alive(ProcessId(os.getpid(), started))
    assert not is_alive(ProcessId(os.getpid(), started - 100))
    assert started < time.time()

"""A lock has one holder, and ends with it."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.locks import exclusive_lock, hold, is_held


def test_a_lock_has_one_holder_at_a_time_and_ends_with_its_process(tmp_path: Path) -> None:
    file, log = tmp_path / "new folder" / "lock", tmp_path / "log"
    program = (
        "import os, pathlib, sys\n"
        "from infra.locks import exclusive_lock\n"
        "print('started', flush=True)\n"
        f"with exclusive_lock(pathlib.Path({str(file)!r})):\n"
        f"    print(pathlib.Path({str(log)!r}).read_text(), flush=True)\n"
        "    os._exit(0)\n"
    )
    with exclusive_lock(file):
        other = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        assert other.stdout.readline() == "started\n"
        log.write_text("written while the lock was held")
    assert other.communicate()[0] == "written while the lock was held\n"
    with exclusive_lock(file):
        pass


def test_a_lock_that_is_held_is_seen_and_not_given_again(tmp_path: Path) -> None:
    file = tmp_path / "stack" / "running"
    assert not is_held(file)
    assert not file.parent.exists()

    descriptor = hold(file)
    assert descriptor is not None
    assert is_held(file)
    assert hold(file) is None
    os.close(descriptor)
    assert not is_held(file)


def test_who_inherits_a_lock_holds_it_too(tmp_path: Path) -> None:
    file = tmp_path / "running"
    descriptor = hold(file)
    assert descriptor is not None
    child = subprocess.Popen(["sleep", "600"], pass_fds=(descriptor,))
    os.close(descriptor)

    assert is_held(file)
    child.kill()
    child.wait()
    assert not is_held(file)


def test_a_lock_whose_file_was_removed_is_not_mistaken_for_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`clean` removes the file of its lock while another command waits for it."""
    file, lock = tmp_path / "lock", fcntl.flock

    def remove_then_lock(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        file.unlink()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", remove_then_lock)
    with exclusive_lock(file):
        assert is_held(file)
    assert not is_held(file)

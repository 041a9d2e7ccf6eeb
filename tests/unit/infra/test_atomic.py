"""Files and folders are written completely or not at all; a lock has one holder."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from infra.atomic import atomic_file, atomic_folder, exclusive_lock, write_atomic


def test_a_new_file_replaces_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "new folder" / "state.json"
    write_atomic(file, b"one")
    write_atomic(file, b"two")
    assert file.read_bytes() == b"two"
    assert [f.name for f in file.parent.iterdir()] == ["state.json"]


def test_an_unfinished_file_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    file.write_bytes(b"one")
    with suppress(ZeroDivisionError), atomic_file(file) as draft:
        draft.write_bytes(b"half of tw")
        raise ZeroDivisionError
    assert file.read_bytes() == b"one"
    assert [f.name for f in tmp_path.iterdir()] == ["state.json"]


def test_a_new_folder_replaces_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    for name in ("first", "second"):
        with atomic_folder(folder) as draft:
            (draft / name).touch()
    assert [f.name for f in folder.iterdir()] == ["second"]


def test_an_unfinished_folder_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with atomic_folder(folder) as draft:
        (draft / "first").touch()
    with suppress(ZeroDivisionError), atomic_folder(folder) as draft:
        (draft / "second").touch()
        raise ZeroDivisionError
    assert [f.name for f in folder.iterdir()] == ["first"]
    assert [f.name for f in tmp_path.iterdir()] == ["model"]


def test_a_private_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    write_atomic(file, b"one", mode=0o600)
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_lock_has_one_holder_at_a_time_and_ends_with_its_process(tmp_path: Path) -> None:
    file, log = tmp_path / "new folder" / "lock", tmp_path / "log"
    program = (
        "import os, pathlib, sys\n"
        "from infra.atomic import exclusive_lock\n"
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

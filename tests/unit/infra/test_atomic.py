"""Files and folders are written completely or not at all."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from infra.atomic import atomic_file, atomic_folder, write_atomic


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


def test_the_files_of_a_new_folder_are_on_disk_before_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_ino))
    with atomic_folder(tmp_path / "model") as draft:
        (draft / "inner").mkdir()
        (draft / "inner" / "file").write_bytes(b"content")
        inodes = {path.stat().st_ino for path in (draft, *draft.rglob("*"))}
    assert inodes <= set(synced)

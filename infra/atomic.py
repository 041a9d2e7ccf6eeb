"""Files and folders that appear whole or not at all, and locks between processes."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_file(file: Path, *, durable: bool = True) -> Iterator[Path]:
    """A path to write to, which takes the place of `file` when the block has ended well.

    The content is on disk before the name: a power failure leaves the old file or the new one.
    Without `durable` that holds for a crash of the process only, and nothing waits for the disk.
    Missing parent folders are created. An error in the block leaves `file` unchanged.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".new-") as work:
        draft = Path(work) / file.name
        yield draft
        if durable:
            _sync(draft)
        draft.replace(file)
    if durable:
        _sync(file.parent)


def write_atomic(file: Path, content: bytes, *, mode: int = 0o666, durable: bool = True) -> None:
    """Write a small file through `atomic_file`.

    It has the permissions `mode` (less the umask) from its first byte.
    """
    with atomic_file(file, durable=durable) as draft:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "wb") as output:
            output.write(content)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A new, empty folder to fill, which takes the place of `folder` when the block has ended well.

    Its old content is deleted just before that. Missing parent folders are created. An error in the
    block leaves `folder` unchanged.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as work:
        draft = Path(work) / folder.name
        draft.mkdir()
        yield draft
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    _sync(folder.parent)


@contextmanager
def exclusive_lock(file: Path) -> Iterator[None]:
    """One process at a time holds the lock of that file; the others wait.

    The file is created, with its parent folders, and stays. The lock ends with its process.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

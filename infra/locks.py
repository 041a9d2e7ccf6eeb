"""Locks between the processes of one machine: they end with their holder, however that ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def hold(file: Path) -> int | None:
    """A descriptor that holds the lock until it and every copy of it is closed; None: it is taken.

    A process that inherits the descriptor holds the lock too.
    """
    return _lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_held(file: Path) -> bool:
    """Whether some process holds the lock. Creates nothing."""
    if not file.exists():
        return False
    descriptor = hold(file)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


@contextmanager
def exclusive_lock(file: Path) -> Iterator[None]:
    """One process at a time holds the lock of that file; the others wait.

    The file is created, with its parent folders, and stays. The lock ends with its process.
    """
    descriptor = _lock(file, fcntl.LOCK_EX)
    assert descriptor is not None, "a lock that is waited for"
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(file: Path, operation: int) -> int | None:
    while True:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, operation)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if _is_file_of(descriptor, file):
            return descriptor
        os.close(descriptor)  # `clean` removed it while we waited: a lock that nobody can find


def _is_file_of(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file))
    except FileNotFoundError:
        return False

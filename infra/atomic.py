"""Files and folders that appear whole or not at all, and locks between processes."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
def atomic_folder(folder: Path, *, unless_holds: str | None = None) -> Iterator[Path]:
    """A new, empty folder to fill, which takes the place of `folder` when the block has ended well.

    Its old content is deleted just before that; but a folder that holds the file `unless_holds` by
    then stays as it is, and the new one is dropped. Missing parent folders are created. An error in
    the block leaves `folder` unchanged. The files are on disk before the name, as for
    `atomic_file`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as work:
        draft = Path(work) / folder.name
        draft.mkdir()
        yield draft
        for path in (*draft.rglob("*"), draft):
            if not path.is_symlink():
                _sync(path)
        while not _renamed(draft, folder):
            if unless_holds and (folder / unless_holds).exists():
                break
            with suppress(FileNotFoundError):  # another process took it away
                folder.rename(Path(tempfile.mkdtemp(dir=work)) / "old")
    _sync(folder.parent)


def _renamed(draft: Path, folder: Path) -> bool:
    """Whether the draft took the free place of the folder; a folder with content keeps it."""
    try:
        draft.rename(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""A small real file system for a few processes: a tmpfs in a mount namespace of its own.

Needs Linux with user namespaces, but no root.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_MOUNT = 'mount -t tmpfs -o size="$2" tmpfs "$1" && echo mounted && exec sleep infinity'


@dataclass(frozen=True, kw_only=True)
class SmallDisk:
    """`folder` is on the small file system for commands that begin with `within`."""

    folder: Path
    holder: int

    @property
    def within(self) -> tuple[str, ...]:
        """The prefix of a command that makes it see the small file system."""
        return ("nsenter", "--preserve-credentials", "--user", "--mount", f"--target={self.holder}")

    def fill(self) -> None:
        """Leave no room at all."""
        with self._ballast.open("ab") as ballast:
            room = os.statvfs(self._ballast.parent)
            os.posix_fallocate(ballast.fileno(), 0, room.f_bavail * room.f_frsize)

    def make_room(self) -> None:
        """Free the space that `fill` used."""
        self._ballast.unlink()

    @property
    def _ballast(self) -> Path:
        return Path(f"/proc/{self.holder}/root{self.folder}/ballast")


@contextmanager
def small_disk(folder: Path, *, mib: int) -> Iterator[SmallDisk]:
    """A disk of that size at `folder`; removed with its content at the end of the block."""
    folder.mkdir()
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _MOUNT]
    command += ["hold", str(folder), f"{mib}m"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "mounted\n"
            yield SmallDisk(folder=folder, holder=holder.pid)
        finally:
            holder.kill()

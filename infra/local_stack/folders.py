"""Folders that only their owner may enter. No link that somebody planted is followed."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from infra.local_stack.service import StackError
from infra.process.users import user_name

PRIVATE = 0o700
PASSABLE = 0o711
"""Others may reach what they know the name of: PostgreSQL's user, when we are root."""


def own_folder(folder: Path, *, uid: int | None = None, mode: int = PRIVATE) -> None:
    """Make `folder`, or take an existing one of ours, for the user `uid` (None: ourselves).

    Raises:
        StackError: it is a link or no folder, or it belongs to someone else.
    """
    folder.parent.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=PRIVATE)
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except PermissionError as error:
        raise _foreign(folder, folder.lstat().st_uid) from error
    except OSError as error:
        raise StackError(f"{folder} is no folder but a link or a file", hint="remove it") from error
    try:
        owner = os.fstat(descriptor).st_uid
        if owner not in {os.geteuid(), uid}:
            raise _foreign(folder, owner)
        if uid is not None:
            os.fchown(descriptor, uid, -1)
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def check_owner(folder: Path) -> None:
    """Check that a folder, if it is there, is ours.

    Raises:
        StackError: it belongs to someone else, or cannot be looked at.
    """
    try:
        owner = folder.stat().st_uid
    except FileNotFoundError:
        return
    except OSError as error:
        raise StackError(f"{folder} cannot be used: {error.strerror}", hint=_HINT) from error
    if owner != os.geteuid():
        raise _foreign(folder, owner)


def close_to_others(state: Path) -> None:
    """Let no other user look into the state folder, its files, and the folders in it.

    As root the folder stays passable, for PostgreSQL runs as `nobody`; then it is the folders
    in it that keep others out.
    """
    is_root = os.geteuid() == 0
    own_folder(state, mode=PASSABLE if is_root else PRIVATE)
    with os.scandir(state) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and entry.stat().st_uid == os.geteuid():
                own_folder(Path(entry.path), mode=PASSABLE if entry.name == "postgres" else PRIVATE)
            elif entry.is_file(follow_symlinks=False):
                mode = stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode)
                os.chmod(entry.path, mode & PRIVATE)


_HINT = "run the command as its owner, or set EVENTIDE_STATE_DIR to a folder of yours"


def _foreign(folder: Path, owner: int) -> StackError:
    return StackError(f"{folder} belongs to another user ({user_name(owner)})", hint=_HINT)

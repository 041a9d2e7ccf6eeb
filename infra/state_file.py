"""Small JSON files that one process leaves for the next, and that a power failure may cut off."""

import sys
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from infra.errors import EventideError

T = TypeVar("T")
_reported = set[Path]()


class StateUnreadable(EventideError):
    """A state file is there, and this user may not read it."""

    hint = "run the command as the user who started the stack, or set EVENTIDE_STATE_DIR"


def read_state(file: Path, type_: type[T] | Any) -> T | None:
    """The record in `file`; None when there is no file.

    A file that is empty, cut off or holds something else is taken as absent, and that is said once
    a process, on standard error.

    Raises:
        StateUnreadable: the file cannot be read.
    """
    try:
        content: T = msgspec.json.decode(file.read_bytes(), type=type_)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StateUnreadable(f"{file} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        _report(file, error)
        return None
    return content


def _report(file: Path, error: Exception) -> None:
    if file not in _reported:
        _reported.add(file)
        sys.stderr.write(f"warning: {file} is damaged and taken as absent: {error}\n")

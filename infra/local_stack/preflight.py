"""What must hold of a machine and its folders before `up` starts anything."""

import re
from pathlib import Path

from infra.atomic import write_atomic
from infra.local_stack.folders import check_owner, close_to_others
from infra.local_stack.service import StackError

LONGEST_BYTES = 800
"""Of a state folder: PostgreSQL takes paths of 1,024 bytes."""
_VARIABLE = re.compile(r"\$(\w+|\{[^}]*\})")
_HINT = "set EVENTIDE_STATE_DIR to another folder"


def check_state_folder(state: Path, env: dict[str, str]) -> None:
    """Make the state folder, close it to other users and write to it.

    Raises:
        StackError: no stack can run there; the message says why.
    """
    if reason := unusable(str(state), env):
        raise StackError(f"the state folder {str(state)!r} {reason}", hint=_HINT)
    check_owner(state)
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        close_to_others(state)
        probe = state / "stack" / "probe"
        write_atomic(probe, b"written by `eventide up`", mode=0o600)
        probe.unlink()
    except OSError as error:
        raise StackError(
            f"the state folder {state} cannot be written: {error.strerror}", hint=_HINT
        ) from error


def unusable(path: str, env: dict[str, str]) -> str:
    """Why no stack can live in this folder; empty when one can."""
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in path):
        return "has a control character in its name"
    try:
        length = len(path.encode())
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    if length > LONGEST_BYTES:
        return f"has a path of {length} bytes; {LONGEST_BYTES} are possible"
    for name in (match[1].strip("{}") for match in _VARIABLE.finditer(path)):
        if name in env:
            return f"has ${name} in its name, for which Airflow would put the variable"
    return ""

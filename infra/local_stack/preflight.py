"""What must hold of a machine and its folders before `up` starts anything."""

import re
from pathlib import Path

from infra.atomic import write_atomic
from infra.folder_names import unusable
from infra.local_stack.folders import check_owner, close_to_others
from infra.local_stack.service import StackError

_VARIABLE = re.compile(r"\$(\w+|\{[^}]*\})")
_HINT = "set EVENTIDE_STATE_DIR to another folder"


def check_state_folder(state: Path, env: dict[str, str]) -> None:
    """Make the state folder, close it to other users and write to it.

    Raises:
        StackError: no stack can run there; the message says why.
    """
    if reason := unusable(str(state)) or unusable_for_airflow(str(state), env):
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


def unusable_for_airflow(path: str, env: dict[str, str]) -> str:
    """Why Airflow could not use this folder; empty when it can. It expands variables in paths."""
    for name in (match[1].strip("{}") for match in _VARIABLE.finditer(path)):
        if name in env:
            return f"has ${name} in its name, for which Airflow would put the variable"
    return ""

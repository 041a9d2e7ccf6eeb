"""Eventide's own processes, run by command as an operator runs them."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

EVENTIDE = str(Path(sys.executable).with_name("eventide"))


def environment(state: Path, bootstrap_servers: str, **more: str) -> dict[str, str]:
    """The environment of a process with its state in `state` and its events on that broker."""
    return {
        **os.environ,
        "EVENTIDE_STATE_DIR": str(state),
        "EVENTIDE_KAFKA__BOOTSTRAP_SERVERS": bootstrap_servers,
        **more,
    }


def run(
    *command: str, env: Mapping[str, str], ok: bool = True, within: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; with `ok` it has to succeed. `within`: see `small_disk`."""
    completed = subprocess.run(
        [*within, EVENTIDE, *command], env=dict(env), capture_output=True, text=True, check=False
    )
    assert not ok or completed.returncode == 0, (
        f"{command}: {completed.returncode}\n{completed.stderr}"
    )
    return completed


@contextmanager
def running(*command: str, env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the background; killed at the end of the block if it still runs."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [EVENTIDE, *command], env=dict(env), stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()

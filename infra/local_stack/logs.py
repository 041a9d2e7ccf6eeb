"""The logs of the services, together or one alone."""

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from infra.local_stack.service import StackError
from infra.local_stack.state_files import StackFiles

_PAUSE_S = 0.3
_LONG_LINE = 400


def read_logs(files: StackFiles, service: str | None, *, lines: int, follow: bool) -> Iterator[str]:
    """The last lines of one log, or of each with its name before it; with `follow` for ever.

    Raises:
        StackError: no such log.
    """
    ends = {file: file.stat().st_size for file in _logs(files, service)}
    for file, end in ends.items():
        for line in _last(file, lines, end):
            yield _named(file, line, service)
    if follow:
        yield from _follow(files, service, ends)


def last_lines(files: StackFiles, service: str, count: int) -> list[str]:
    """The last lines of the service's log; empty when it has none."""
    file = files.log(service)
    return _last(file, count, file.stat().st_size) if file.exists() else []


def trim(folder: Path, *, limit_bytes: int) -> None:
    """Move a log over the limit aside. Its writer appends, so the new file begins at 0."""
    for file in folder.glob("*.log"):
        if file.stat().st_size > limit_bytes:
            shutil.copyfile(file, file.with_suffix(".log.1"))
            os.truncate(file, 0)


def _logs(files: StackFiles, service: str | None) -> list[Path]:
    if service is None:
        return sorted(files.logs.glob("*.log"))
    file = files.log(service)
    if not file.exists():
        known = ", ".join(log.stem for log in sorted(files.logs.glob("*.log")))
        raise StackError(f"there is no log of {service!r}", hint=f"there are: {known or 'none'}")
    return [file]


def _last(file: Path, lines: int, end: int) -> list[str]:
    if lines <= 0:
        return []
    begin = max(0, end - lines * _LONG_LINE)
    with file.open("rb") as log:
        log.seek(begin)
        return _lines(log.read(end - begin))[-lines:]


def _lines(content: bytes) -> list[str]:
    """Lines that a terminal shows and does not obey: a record in a log may hold escapes."""
    text = _ESCAPES.sub("", content.decode(errors="replace"))
    return [_CONTROLS.sub("\ufffd", line) for line in text.splitlines()]


_ESCAPES = re.compile(
    r"\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?"  # OSC: titles, links, the clipboard
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, the cursor
    r"|\x1b[PX^_][^\x1b\n]*(?:\x1b\\)?"  # DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]?"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def _follow(files: StackFiles, service: str | None, ends: dict[Path, int]) -> Iterator[str]:
    """Whole lines after these ends as they come, from logs that come later too."""
    while True:
        for file in _logs(files, service):
            begin = ends.get(file, 0)
            if begin > file.stat().st_size:
                begin = 0  # it moved aside
            with file.open("rb") as log:
                log.seek(begin)
                new = log.read()
            whole_lines = new[: new.rfind(b"\n") + 1]
            ends[file] = begin + len(whole_lines)
            for line in _lines(whole_lines):
                yield _named(file, line, service)
        time.sleep(_PAUSE_S)


def _named(file: Path, line: str, service: str | None) -> str:
    return line if service else f"{file.stem:<14} | {line}"

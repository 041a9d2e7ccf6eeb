"""The progress of a replay: a bar on a terminal, a line every ten seconds in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from infra.clock import from_us

SentCallback = Callable[[int, int], None]
"""Takes the rows sent so far, and the emission time of the last one (microseconds)."""

LeftCallback = Callable[[int], None]
"""Takes the number of offsets that are left."""

LINE_EVERY_S = 10.0


@contextmanager
def sending(console: Console, total: int) -> Iterator[SentCallback]:
    """Shows how much is sent, how fast, and the time of the events."""
    if not console.is_terminal:
        yield _lines_of_sending(console, total)
        return
    bar = Progress(
        TextColumn("sent"),
        BarColumn(),
        TaskProgressColumn(show_speed=False),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}, {task.fields[rate]}"),
        TextColumn("[cyan]{task.fields[clock]}"),
        TimeRemainingColumn(compact=True),
        console=console,
    )
    with bar:
        task = bar.add_task("sent", total=total, clock="", rate="")
        rate = _rate()
        yield lambda sent, known_at_us: bar.update(
            task, completed=sent, clock=_clock(known_at_us), rate=rate(sent)
        )


@contextmanager
def waiting(console: Console, group: str) -> Iterator[LeftCallback]:
    """Shows how many offsets a consumer group still has to reach."""
    if not console.is_terminal:
        print_line = _now_and_then(console)
        yield lambda left: print_line(lambda: f"waiting for {group}: {left:,} to go")
        return
    with console.status("waiting") as line:
        yield lambda left: line.update(f"waiting for {group}: {left:,} to go")


def _lines_of_sending(console: Console, total: int) -> SentCallback:
    print_line, rate = _now_and_then(console), _rate()

    def on_progress(sent: int, known_at_us: int) -> None:
        speed = rate(sent)
        print_line(lambda: f"sent {sent:,} of {total:,}, {speed}, at {_clock(known_at_us)}")

    return on_progress


def _now_and_then(console: Console) -> Callable[[Callable[[], str]], None]:
    last = time.monotonic()

    def print_line(line: Callable[[], str]) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_EVERY_S:
            last = time.monotonic()
            console.print(line())

    return print_line


def _rate() -> Callable[[int], str]:
    """The rate since the first report, which may continue an earlier replay."""
    first: tuple[float, int] | None = None

    def rate(sent: int) -> str:
        nonlocal first
        now = time.monotonic()
        first = first or (now, sent)
        seconds = now - first[0]
        return f"{(sent - first[1]) / seconds:,.0f} a second" if seconds else ""

    return rate


def _clock(known_at_us: int) -> str:
    return f"{from_us(known_at_us):%Y-%m-%d %H:%M}"

"""What a replay tells while it runs: a bar for people, a line every ten seconds for a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from infra.clock import from_us

Told = Callable[[int, int], None]  # rows sent so far, emission time of the last one
Left = Callable[[int], None]  # offsets to go
LINE_EVERY_S = 10.0


@contextmanager
def sending(console: Console, total: int) -> Iterator[Told]:
    """Tells how much is sent, how fast, and how far the clock of the events is."""
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
def waiting(console: Console, group: str) -> Iterator[Left]:
    """Tells how far a consumer group still has to go."""
    if not console.is_terminal:
        on_progress = _now_and_then(console)
        yield lambda left: on_progress(lambda: f"waiting for {group}: {left:,} to go")
        return
    with console.status("waiting") as line:
        yield lambda left: line.update(f"waiting for {group}: {left:,} to go")


def _lines_of_sending(console: Console, total: int) -> Told:
    on_progress, rate = _now_and_then(console), _rate()

    def told(sent: int, known_at_us: int) -> None:
        speed = rate(sent)
        on_progress(lambda: f"sent {sent:,} of {total:,}, {speed}, at {_clock(known_at_us)}")

    return told


def _now_and_then(console: Console) -> Callable[[Callable[[], str]], None]:
    last = time.monotonic()

    def on_progress(line: Callable[[], str]) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_EVERY_S:
            last = time.monotonic()
            console.print(line())

    return on_progress


def _rate() -> Callable[[int], str]:
    """Since the first batch that was told of, which may continue an earlier replay."""
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

"""What an export of a training set tells: how far it is, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from features.retrieval.manifest import Manifest
from features.retrieval.training_set import FILE
from infra.clock import from_us
from infra.process.progress import ProgressCallback


@contextmanager
def exporting(console: Console) -> Iterator[ProgressCallback]:
    """A bar of the slices for people; a log is told nothing."""
    columns = (
        TextColumn("slices"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("slices", total=1)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def sentence(made: Manifest, folder: Path, *, new: bool) -> str:
    """What was written, for people."""
    text = (
        f"{made.rows:,} decisions, {made.labelled:,} of them labelled, as of"
        f" {_moment(made.known_before_us)}: {folder / FILE}\ncontent sha256 {made.content_sha256}"
    )
    if made.mature_until_us < made.end_us:
        text += (
            f"\nwithout those from {_moment(made.mature_until_us)} on: they were too young for"
            " their label"
        )
    return text if new else f"it is there already: {text}"


def difference(before: Manifest, made: Manifest) -> str:
    """What came of making it again, for people."""
    if before.content_sha256 == made.content_sha256:
        return f"the same {made.rows:,} rows: content sha256 {made.content_sha256}"
    counts = (
        f"rows {before.rows:,} then, {made.rows:,} now; labelled {before.labelled:,} then,"
        f" {made.labelled:,} now"
    )
    lines = [
        f"the rows differ: content sha256 {before.content_sha256} then, {made.content_sha256} now",
        counts,
    ]
    changed = [v for v, known in made.schema_ids.items() if before.schema_ids.get(v) != known]
    if changed or len(before.schema_ids) != len(made.schema_ids):
        lines.append(f"views whose declaration changed: {', '.join(changed) or 'one is gone'}")
    if before.code != made.code:
        lines.append(f"the code was {before.code.commit}, it is {made.code.commit}")
    return "\n".join(lines)


def _moment(moment_us: int) -> str:
    return f"{from_us(moment_us):%Y-%m-%d %H:%M} UTC"

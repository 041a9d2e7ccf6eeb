"""The progress and the result of an export of a training set, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    """A progress bar of the slices on a terminal; nothing in a log."""
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
        yield lambda completed, total: bar.update(task, completed=completed, total=total)


def sentence(manifest: Manifest, folder: Path, *, new: bool) -> str:
    """What was written, for people."""
    text = (
        f"{manifest.rows:,} decisions, {manifest.labelled:,} of them labelled, as of"
        f" {_moment(manifest.known_before_us)}: {folder / FILE}\n"
        f"content sha256 {manifest.content_sha256}"
    )
    if manifest.mature_until_us < manifest.end_us:
        text += (
            f"\nwithout the decisions from {_moment(manifest.mature_until_us)} on, whose labels may"
            " not be known yet"
        )
    return text if new else f"already there: {text}"


def difference(before: Manifest, manifest: Manifest, changed: Mapping[str, Sequence[str]]) -> str:
    """How the rows computed now compare with those of an earlier export, for people.

    `changed`: the views whose declaration was changed since, and what of it.
    """
    if before.content_sha256 == manifest.content_sha256:
        return f"the same {manifest.rows:,} rows: content sha256 {manifest.content_sha256}"
    counts = (
        f"rows {before.rows:,} then, {manifest.rows:,} now; labelled {before.labelled:,} then,"
        f" {manifest.labelled:,} now"
    )
    lines = [
        (
            f"the rows differ: content sha256 {before.content_sha256} then,"
            f" {manifest.content_sha256} now"
        ),
        counts,
    ]
    for view, parts in changed.items():
        lines.append(f"the declaration of view {view} changed: {'; '.join(parts)}".rstrip(": "))
    if gone := before.schema_ids.keys() - manifest.schema_ids.keys():
        lines.append(f"views that are gone: {', '.join(sorted(gone))}")
    lines += _package_lines(before.code.packages, manifest.code.packages)
    if before.code != manifest.code:
        lines.append(f"the code was {before.code.commit}, it is {manifest.code.commit}")
    return "\n".join(lines)


def _package_lines(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return [
        f"{package} was {before[package]}, it is {version}"
        for package, version in now.items()
        if before.get(package, version) != version
    ]


def _moment(moment_us: int) -> str:
    return f"{from_us(moment_us):%Y-%m-%d %H:%M} UTC"

"""An audit for people and for machines."""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from features.maintenance.audit import Audit

_BAD = frozenset({"missing", "doubled", "unanswered", "answered twice"})


def as_plain(report: Audit) -> dict[str, Any]:
    """The audit as JSON types, with the two verdicts and the totals over all topics."""
    topics = [asdict(t) for t in report.topics]
    requests = [asdict(r) for r in report.requests]
    return {
        "clean": report.clean,
        "settled": report.settled,
        "totals": {"events": _totals(topics), "requests": _totals(requests)},
        "topics": topics,
        "requests": requests,
        "online": asdict(report.online),
    }


def show(report: Audit, console: Console) -> None:
    """The audit as tables, with the verdict in the last line."""
    console.print(_table("events", [asdict(t) for t in report.topics]))
    console.print(_table("requests", [asdict(r) for r in report.requests]))
    online = report.online
    console.print(
        f"online store: {online.values_checked:,} feature values compared with history,"
        f" {online.values_different:,} different, {online.waiting:,} events waiting"
    )
    if not online.values_checked:
        console.print("  (none are compared while events wait for a store)")
    console.print(_verdict(report))


def _verdict(report: Audit) -> str:
    if not report.clean:
        return "[bold red]not clean[/]: see the red figures; `eventide logs` shows what happened"
    if not report.settled:
        return "[bold green]clean[/], but some records are still waiting"
    return (
        "[bold green]clean[/]: all records are stored, and all requests have outcomes, exactly once"
    )


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    names = [name for name in rows[0] if name != "topic"] if rows else []
    table.add_column("topic", no_wrap=True)
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    total = {"topic": "all", **_totals(rows)}
    for row in [*rows, total] if len(rows) > 1 else rows:
        cells = [_cell(name.replace("_", " "), row[name]) for name in names]
        table.add_row(row["topic"], *cells, end_section=row is rows[-1])
    return table


def _cell(name: str, value: int) -> str:
    return f"[bold red]{value:,}[/]" if value and name in _BAD else f"{value:,}"


def _totals(rows: list[dict[str, Any]]) -> dict[str, int]:
    names = [name for name in rows[0] if name != "topic"] if rows else []
    return {name: sum(row[name] for row in rows) for name in names}

"""An audit for people and for machines."""

from dataclasses import asdict
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from features.maintenance.audit import Audit
from features.stores.log_gaps import Gap
from features.stores.ports import LogEntry
from infra.clock import from_us
from infra.tables import numbers, print_table, words

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
        "gaps": [gap_as_plain(gap) for gap in report.gaps],
        "accepted_gaps": msgspec.to_builtins(report.accepted),
    }


def gap_as_plain(gap: Gap) -> dict[str, Any]:
    """A gap as JSON types: where the sinks stand, and what the log holds."""
    return {
        "topic": gap.partition.topic,
        "partition": gap.partition.number,
        "kinds": dict(gap.kinds),
        "positions": {s.sink: s.position for s in gap.sinks},
        "first": gap.log.first,
        "end": gap.log.end,
        "topic_id": gap.log.topic_id,
        "previous_topic_id": gap.previous.topic_id if gap.previous else "",
        "why": str(gap),
    }


def accepted_as_text(entry: LogEntry) -> str:
    """An accepted gap in one line."""
    gap = entry.gap
    assert gap is not None
    places = ", ".join(f"{sink} {at:,}" for sink, at in gap.positions.items())
    return (
        f"{entry.topic}-{entry.partition}: {gap.kind}; positions {places}; the log held"
        f" [{gap.first:,}, {gap.end:,}); accepted by {gap.by} at"
        f" {from_us(entry.since_us):%Y-%m-%d %H:%M:%S} UTC: {gap.reason}"
    )


def show(report: Audit, console: Console) -> None:
    """The audit as tables, with the verdict in the last line."""
    _print_accounts(console, "events", [asdict(t) for t in report.topics])
    _print_accounts(console, "requests", [asdict(r) for r in report.requests])
    online = report.online
    console.print(
        f"online store: {online.values_checked:,} feature values compared with history,"
        f" {online.values_different:,} different, {online.waiting:,} events waiting"
    )
    if not online.values_checked:
        console.print("  (none are compared while events wait for a store)")
    for gap in report.gaps:
        console.print(f"[bold red]lost[/]: {escape(str(gap))}")
    for entry in report.accepted:
        console.print(f"accepted loss: {escape(accepted_as_text(entry))}")
    console.print(_verdict(report))


def _verdict(report: Audit) -> str:
    if report.gaps:
        return "[bold red]not clean[/]: records are lost; see `eventide topics accept-gap`"
    if not report.clean:
        return "[bold red]not clean[/]: see the red figures; `eventide logs` shows what happened"
    if not report.settled:
        return "[bold green]clean[/], but some records are still waiting"
    return (
        "[bold green]clean[/]: all records are stored, and all requests have outcomes, exactly once"
    )


def _print_accounts(console: Console, title: str, accounts: list[dict[str, Any]]) -> None:
    names = [name for name in accounts[0] if name != "topic"] if accounts else []
    total = {"topic": "all", **_totals(accounts)}
    print_table(
        console,
        (*words("topic"), *numbers(*(name.replace("_", " ") for name in names))),
        [
            (row["topic"], *(_cell(name.replace("_", " "), row[name]) for name in names))
            for row in ([*accounts, total] if len(accounts) > 1 else accounts)
        ],
        title=title,
    )


def _cell(name: str, value: int) -> Text:
    return Text(f"{value:,}", style="bold red" if value and name in _BAD else "")


def _totals(rows: list[dict[str, Any]]) -> dict[str, int]:
    names = [name for name in rows[0] if name != "topic"] if rows else []
    return {name: sum(row[name] for row in rows) for name in names}

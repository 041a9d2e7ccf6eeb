"""Appending to the offline store, 10,000 readings of 20 numbers a commit, until 5 M are in.

    python -m tests.benchmarks.append [--quick] [--no-peer] [--json FILE]

Ours: the Delta adapter, rows and positions in one commit, as ingest calls it. The peer: Feast's
push to the offline store (DuckDB), into a Parquet file that holds the 5 M readings already.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from features.stores.delta.store import DeltaOfflineStore
from tests.benchmarks import made
from tests.benchmarks.kit import Bar, Cost, Line, cost_of, measure, parser, report, run_module
from tests.benchmarks.peers.environment import python_of

ROWS = 10_000
PUSHES = 3


def main() -> int:
    """Measure both, print the table, write JSON."""
    options = parser(__doc__).parse_args()
    size = made.QUICK if options.quick else made.FULL
    readings = made.made_readings(size)
    with tempfile.TemporaryDirectory(prefix="eventide-bench-") as name:
        folder = Path(name)
        costs = append(DeltaOfflineStore(str(folder / "offline"), [made.READ]), readings)
        peer = None
        if not options.no_peer:
            made.write_for_peer(folder, readings, size)
            peer = push(folder, options)
    report("append", lines(costs, peer), options)
    return 0


def append(store: DeltaOfflineStore, readings: made.Readings) -> list[Cost]:
    """What each commit took."""
    batches = made.batches(readings, ROWS)
    return [measure(lambda batch=batch: store.append(batch))[1] for batch in batches]  # type: ignore[misc]


def push(folder: Path, options: argparse.Namespace) -> Cost:
    """What the peer's pushes took, all together."""
    module, python = "tests.benchmarks.peers.feast_peer", python_of("feast")
    sizes = ("--rows", ROWS, "--pushes", PUSHES)
    return cost_of(run_module(module, "append", folder, *sizes, python=python))


def lines(costs: list[Cost], peer: Cost | None) -> list[Line]:
    """The rate at the end, and whether it stayed what it was in the beginning."""
    tenth = max(len(costs) // 10, 1)
    first, last = costs[:tenth], costs[-tenth:]
    pushed = ROWS * PUSHES
    name = "Feast's push, DuckDB"
    return [
        Line(
            what="append to a full table",
            unit="rows per CPU s",
            ours=rate([c.cpu_s for c in last]),
            peer=pushed / peer.cpu_s if peer else None,
            peer_name=name,
            bar=Bar(kind="times more", value=150),
        ),
        Line(
            what="append to a full table",
            unit="rows per s",
            ours=rate([c.seconds for c in last]),
            peer=pushed / peer.seconds if peer else None,
            peer_name=name,
            bar=Bar(kind="times more", value=150),
        ),
        Line(
            what="last tenth of the commits by the first",
            unit="rate",
            ours=rate([c.cpu_s for c in last]) / rate([c.cpu_s for c in first]),
            bar=Bar(kind="at least", value=0.8),
        ),
        Line(
            what="slowest commit",
            unit="ms",
            ours=1_000 * max(c.seconds for c in costs[1:]),
        ),
        Line(
            what="median commit",
            unit="CPU ms",
            ours=1_000 * statistics.median(c.cpu_s for c in costs),
        ),
    ]


def rate(seconds: list[float]) -> float:
    """Rows a second over some commits, what is done every so many commits included."""
    return ROWS * len(seconds) / sum(seconds)


if __name__ == "__main__":
    sys.exit(main())

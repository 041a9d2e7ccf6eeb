"""The point-in-time join: 20 features of an entity for each label, from the offline store.

    python -m tests.benchmarks.history [--quick] [--no-peer] [--json FILE]

1 M labels, 5 M readings of 100,000 entities over 30 days, at most 7 days old. Ours: the public
historical path (`features.retrieval.historical`) on a Delta store that our adapter wrote in commits
of 50,000 rows, as ingest does. The peer: Feast's `get_historical_features` on its DuckDB store and
a Parquet file of the same readings. Ours also drops readings that were sent twice and looks only at
what was known at the label's time; Feast looks at when it happened.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from features.definitions import Float64Array
from features.retrieval.event_log import EventLog
from features.retrieval.view_values import view_values
from features.stores.delta.store import DeltaOfflineStore
from tests.benchmarks import made
from tests.benchmarks.kit import (
    Bar,
    Line,
    cost_of,
    measure,
    parser_with_run,
    print_cost,
    report,
    run_module,
)
from tests.benchmarks.peers.environment import python_of

ROWS_A_COMMIT = 50_000  # what forces a commit of ingest (`flush_rows`)
LEAST_AGREEMENT = 0.95  # late readings make the difference: known before, or happened before


def main() -> int:
    """Measure both, print the table, write JSON."""
    options = parser_with_run(__doc__).parse_args()
    if options.run:
        return run(options)
    with tempfile.TemporaryDirectory(prefix="eventide-bench-") as name:
        folder = Path(name)
        size = made.QUICK if options.quick else made.FULL
        readings = made.made_readings(size)
        made.write_for_peer(folder, readings, size)
        made.fill(offline(folder), readings, rows=ROWS_A_COMMIT)
        del readings
        quick = ["--quick"] if options.quick else []
        ours = run_module("tests.benchmarks.history", "--run", folder, *quick)
        peer = None
        if not options.no_peer:
            peer = run_module(
                "tests.benchmarks.peers.feast_peer", "join", folder, python=python_of("feast")
            )
            check(folder)
    report("history", lines(ours, peer), options, ours=ours, peer=peer)
    return 0


def run(options: argparse.Namespace) -> int:
    """Ours, in a process of its own, so that its peak is its own."""
    sensor, at = made.made_labels(made.QUICK if options.quick else made.FULL)
    query_frame = pl.DataFrame({"sensor": made.names(sensor)})
    store = offline(options.run)
    values, cost = measure(lambda: view_values(made.NEWEST, EventLog(store), query_frame, at))
    np.save(options.run / "ours.npy", values[:, 0])
    print_cost(cost, rows=len(values), found=labels_with_value(values[:, 0]))
    return 0


def offline(folder: Path) -> DeltaOfflineStore:
    """The store of this run."""
    return DeltaOfflineStore(str(folder / "offline"), [made.READ])


def labels_with_value(values: Float64Array) -> int:
    """How many labels have a value."""
    return int((~np.isnan(values)).sum())


def check(folder: Path) -> None:
    """Raise AssertionError unless both computed the same values."""
    ours, peers = np.load(folder / "ours.npy"), np.load(folder / "peer.npy")
    assert len(ours) == len(peers), f"{len(ours)} rows of ours, {len(peers)} of the peer's"
    same = float(np.mean((ours == peers) | (np.isnan(ours) & np.isnan(peers))))
    assert same >= LEAST_AGREEMENT, f"only {same:.1%} of the values agree"


def lines(ours: dict[str, object], peer: dict[str, object] | None) -> list[Line]:
    """CPU and memory."""
    mine, its = cost_of(ours), None if peer is None else cost_of(peer)
    name = "Feast on DuckDB"
    return [
        Line(
            what="join",
            unit="CPU s",
            ours=mine.cpu_s,
            peer=its.cpu_s if its else None,
            peer_name=name,
            bar=Bar(kind="times less", value=12),
        ),
        Line(
            what="join",
            unit="MiB at most",
            ours=mine.peak_mib,
            peer=its.peak_mib if its else None,
            peer_name=name,
            bar=Bar(kind="at most", value=1_229),  # 1.2 GiB
        ),
        Line(
            what="join",
            unit="s",
            ours=mine.seconds,
            peer=its.seconds if its else None,
            peer_name=name,
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())

"""What small commits cost the offline store, and what maintenance gains back.

    python tests/benchmarks/offline_maintenance.py [--rows N] [--json FILE]

Appends the departures of the recording in commits of 200 rows, as a slow ingest would, then
maintains the store. The load average is printed with the figures: on busy cores they mean nothing.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from features.catalog.flights.events import DEPARTED
from features.contracts.codec import decode
from features.engine.columns import field_tuples
from features.maintenance.compaction import CompactionRules, maintain
from features.stores.delta.maintenance import DeltaMaintenance
from features.stores.delta.store import DeltaOfflineStore
from features.stores.ports import EventBatch
from infra.clock import DAY
from infra.kafka.partitions import Partition
from tests.support.data.recordings import flights

COMMIT_ROWS = 200
COLUMNS = ("event_id", "event_time_us", "carrier", "departure_delay_minutes")


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=400_000, help="of departures, at most")
    parser.add_argument("--json", type=Path, help="write the figures into this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="eventide-upkeep-") as root:
        figures = measure(root, rows=options.rows)
    for name, value in figures.items():
        print(f"{name:34} {value}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def measure(root: str, *, rows: int) -> dict[str, Any]:
    """Append, read, maintain, read again."""
    load = os.getloadavg()[0]
    store, maintenance = DeltaOfflineStore(root, [DEPARTED]), DeltaMaintenance(root)
    event_batches = list(batches(rows))
    last = max(1, len(event_batches) // 20)
    commits = [_timed(partial(store.append, batch)) for batch in event_batches[:-last]]
    tenth = max(1, len(commits) // 10)
    files_before, reads_before = maintenance.files(DEPARTED), _reads(root)
    rules = CompactionRules(closed_after_us=DAY, retention_hours=168)
    began_s = time.process_time()
    [first_run] = maintain([DEPARTED], store, maintenance, rules=rules, on_progress=lambda _: None)
    maintenance_s = time.process_time() - began_s
    [second_run] = maintain([DEPARTED], store, maintenance, rules=rules, on_progress=lambda _: None)
    reads_after = _reads(root)
    store = DeltaOfflineStore(root, [DEPARTED])
    commits_after = [_timed(partial(store.append, batch)) for batch in event_batches[-last:]]
    return {
        "load average": load,
        "commits": len(commits),
        "append, first tenth, CPU ms": _ms(commits[:tenth]),
        "append, last tenth, CPU ms": _ms(commits[-tenth:]),
        "append, after the upkeep, CPU ms": _ms(commits_after),
        "files before, after": (files_before, first_run.files_after),
        "days put together, CPU s": (first_run.days, round(maintenance_s, 1)),
        "days put together by a second run": second_run.days,
        "open and read all, CPU ms": (reads_before[0], reads_after[0]),
        "open and read a day, CPU ms": (reads_before[1], reads_after[1]),
    }


def batches(rows: int) -> Any:
    """The departures in their order, `COMMIT_ROWS` a batch."""
    frame = flights().filter(pl.col("event") == DEPARTED.name).head(rows)
    partition = Partition(DEPARTED.name, 0)
    for at, part in enumerate(frame.iter_slices(COMMIT_ROWS)):
        records = [decode(DEPARTED, payload) for payload in part["payload"]]
        known_at_us: Any = part["known_at_us"].to_numpy()
        start = at * COMMIT_ROWS
        yield EventBatch(
            event=DEPARTED,
            columns={
                **field_tuples(records, DEPARTED.fields),
                "known_at_us": known_at_us,
                "ingest_time_us": known_at_us,
                "partition": [0] * len(part),
                "offset": range(start, start + len(part)),
            },
            starts={partition: start},
            ends={partition: start + len(part)},
        )


def _reads(root: str) -> tuple[float, float]:
    """Median of five, each by a store that was just opened: all rows, and those of a day."""
    noon_us = 1_362_139_200_000_000  # 2013-03-01
    span = {"event_from_us": noon_us, "event_until_us": noon_us + DAY}

    def all_rows() -> None:
        DeltaOfflineStore(root, [DEPARTED]).read(DEPARTED, columns=COLUMNS)

    def a_day() -> None:
        DeltaOfflineStore(root, [DEPARTED]).read(DEPARTED, columns=COLUMNS, **span)

    return _ms([_timed(all_rows) for _ in range(5)]), _ms([_timed(a_day) for _ in range(5)])


def _timed(work: Any) -> float:
    began_s = time.process_time()
    work()
    return time.process_time() - began_s


def _ms(seconds: list[float]) -> float:
    return round(statistics.median(seconds) * 1_000, 1)


if __name__ == "__main__":
    main()

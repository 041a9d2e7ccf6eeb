"""A wide training set: 1,000 features of 20 views for each of 17,000 decisions.

    python -m tests.benchmarks.wide_history [--quick] [--json FILE]

5 M readings: each view has a table of its own with 250,000 of them and 50 numbers, of which it
gives the newest of 25 and the mean of 25 over 7 days. Measured is the public historical path
(`features.retrieval.historical.training_rows`); the rows that it returns count for its memory.
"""

import argparse
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from features.definitions import (
    Aggregation,
    Column,
    Decision,
    EventType,
    FeatureService,
    FeatureView,
    Label,
)
from features.retrieval.historical import TrainingRows, training_rows
from features.stores.delta.store import DeltaOfflineStore
from features.stores.ports import EventBatch
from infra.clock import DAY, HOUR
from infra.kafka.partitions import Partition
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
from tests.benchmarks.made import ASKED, DAYS, ENTITY, START_US, TTL

VIEWS, NUMBERS, COMMITS = 20, 50, 5
ROWS, ENTITIES = 250_000, 17_000
QUICK_ROWS, QUICK_ENTITIES = 10_000, 1_000
SCALE = 1_000_000
FIELDS = tuple(f"f{i}" for i in range(NUMBERS))
ADDED = FIELDS[NUMBERS // 2 :]


def main() -> int:
    """Measure, print the table, write JSON."""
    options = parser_with_run(__doc__).parse_args()
    if options.run:
        return run(options)
    with tempfile.TemporaryDirectory(prefix="eventide-bench-") as name:
        rows, entities = (QUICK_ROWS, QUICK_ENTITIES) if options.quick else (ROWS, ENTITIES)
        fill(Path(name), rows=rows, entities=entities)
        printed = run_module("tests.benchmarks.wide_history", "--run", name)
    cost = cost_of(printed)
    what = f"{printed['rows']:,} rows x {printed['features']:,} features"
    lines = [
        Line(what=what, unit="s", ours=cost.seconds, bar=Bar(kind="at most", value=5)),
        Line(what=what, unit="MiB at most", ours=cost.peak_mib, bar=Bar(kind="at most", value=600)),
        Line(what=what, unit="CPU s", ours=cost.cpu_s),
    ]
    report("wide_history", lines, options, ours=printed)
    return 0


def run(options: argparse.Namespace) -> int:
    """Ours, in a process of its own, so that its peak is its own."""
    declared = service()
    rows, cost = measure(lambda: rows_of(declared, options.run))
    features = rows.frame.width - 4  # entity, time, label, time of the label
    print_cost(cost, rows=rows.frame.height, features=features, sha256=rows.manifest.sha256)
    return 0


def rows_of(declared: FeatureService, folder: Path) -> TrainingRows:
    """The training set."""
    end_us = START_US + DAYS * DAY
    return training_rows(
        declared,
        label(),
        offline(folder),
        start_us=START_US,
        end_us=end_us,
        known_before_us=end_us,
    )


def offline(folder: Path) -> DeltaOfflineStore:
    """The store of this run."""
    return DeltaOfflineStore(str(folder / "offline"), [ASKED, *map(event, range(VIEWS))])


def event(number: int) -> EventType:
    """The readings of one view."""
    record = msgspec.defstruct(
        f"Reading{number}",
        [("event_id", str), ("event_time_us", int), ("sensor", str), *((f, float) for f in FIELDS)],
        frozen=True,
        kw_only=True,
        module=__name__,
    )
    return EventType(name=f"sensor.read{number}", record=record, key="sensor", partitions=1)


def view(number: int) -> FeatureView:
    """The newest of half of the numbers, the mean of the others."""
    newest, added = FIELDS[: -len(ADDED)], ADDED
    return FeatureView(
        name=f"wide{number}",
        source=event(number),
        entity=ENTITY,
        columns=tuple(
            Column(name=f"mean_{f}", compute=lambda e, f=f: e[f], reads=(f,), scale=SCALE)  # type: ignore[misc]
            for f in added
        ),
        aggregations=(
            *(Aggregation(operation="last", column=f, windows=(TTL,)) for f in newest),
            *(Aggregation(operation="mean", column=f"mean_{f}", windows=(TTL,)) for f in added),
        ),
    )


def service() -> FeatureService:
    """All views for one request."""
    return FeatureService(
        name="wide",
        decision=Decision(
            request=ASKED, source=ASKED, entity_id="event_id", at=lambda e: e["event_time_us"]
        ),
        request_columns=(),
        views=tuple(map(view, range(VIEWS))),
    )


def label() -> Label:
    """None of the decisions has it: no id agrees with theirs."""
    return Label(
        name="none",
        source=event(0),
        entity_id="event_id",
        value=lambda e: e["f0"] > 0,
        reads=("f0",),
        max_wait=timedelta(0),
    )


def fill(folder: Path, *, rows: int, entities: int) -> None:
    """One request an entity, and the readings of each view."""
    store, rng = offline(folder), np.random.default_rng(0)
    asked_us = np.sort(rng.integers(10 * DAY, DAYS * DAY - HOUR, entities)) + START_US
    store.append(batch(ASKED, asked_us, np.arange(entities), first=0))
    for number in range(VIEWS):
        happened_us = np.sort(rng.integers(0, DAYS * DAY, rows)) + START_US
        for part in np.array_split(np.arange(rows), COMMITS):
            sensor = rng.integers(0, entities, len(part))
            values = rng.random((len(FIELDS), len(part)), np.float32).astype(np.float64)
            numbers = dict(zip(FIELDS, values, strict=True))
            first = int(part[0])
            store.append(batch(event(number), happened_us[part], sensor, first=first, **numbers))


def batch(
    of: EventType, happened_us: np.ndarray, sensor: np.ndarray, *, first: int, **numbers: np.ndarray
) -> EventBatch:
    """One commit of events that were known when they happened."""
    n = len(happened_us)
    columns: dict[str, Any] = {
        "event_id": [f"{of.name}-{first + i:012d}" for i in range(n)],
        "event_time_us": happened_us,
        "sensor": [str(s) for s in sensor.tolist()],
        **numbers,
        "known_at_us": happened_us,
        "ingest_time_us": happened_us,
        "partition": np.zeros(n, np.int64),
        "offset": np.arange(first, first + n),
    }
    return EventBatch(
        event=of,
        columns=columns,
        starts={Partition(of.name, 0): first},
        ends={Partition(of.name, 0): first + n},
    )


if __name__ == "__main__":
    sys.exit(main())

"""Feature vectors of live requests: all that a service gives a model, for a batch of 500.

    python -m tests.benchmarks.vectors [--quick] [--json FILE]

The recorded flights are folded into an online store, in the order of emission, up to a moment;
then the vectors of the next 500 requests are read again and again. CPU milliseconds a batch.
"""

import sys
import tempfile
from datetime import date

from features.catalog.flights import DOMAIN, views
from features.catalog.flights.services import FLIGHT_DELAY
from features.ingestion.compaction_watermark import CompactionWatermark
from features.ingestion.online_sink import OnlineSink
from features.retrieval.online import FeatureReader
from features.stores.lmdb import LmdbOnlineStore
from features.stores.ports import OnlineStore
from infra.clock import HOUR, to_us
from infra.kafka.partitions import Partition
from infra.settings import IngestSettings
from tests.benchmarks.flights import polls, requests
from tests.benchmarks.kit import Bar, Line, measure, parser, report

BATCH = 500  # what serving takes at once
REPEATS = 40
# After the longest window the state of an entity grows no more; more days only add entities.
UNTIL, UNTIL_QUICK = date(2013, 4, 1), date(2013, 1, 15)


def main() -> int:
    """Measure, print the table, write JSON."""
    options = parser(__doc__).parse_args()
    until_us = to_us(UNTIL_QUICK if options.quick else UNTIL)
    with tempfile.TemporaryDirectory(prefix="eventide-bench-") as name:
        store = LmdbOnlineStore(name)
        events = ingest_events(store, until_us)
        line = read(store, until_us)
        store.close()
    report("vectors", [line], options, events=events, features=len(FLIGHT_DELAY.numbers))
    return 0


def ingest_events(store: OnlineStore, until_us: int) -> int:
    """Everything before that moment into the store, as ingest does; returns how many events."""
    ingest = IngestSettings()
    writer = OnlineSink(
        store,
        views.ALL,
        duplicate_horizon_us=int(ingest.duplicate_horizon_hours * HOUR),
        watermark=CompactionWatermark(
            least_us=int(ingest.hold_hours * HOUR), most_us=int(ingest.hold_hours * HOUR)
        ),
    )
    writer.load([Partition(e.name, n) for e in DOMAIN.events for n in range(e.partitions)])
    events = 0
    for decoded, positions in polls(until_us, records=ingest.max_batch):
        writer.write(decoded.good, positions)
        events += sum(map(len, decoded.good))
    return events


def read(store: OnlineStore, from_us: int) -> Line:
    """The cost of the vectors of one batch."""
    reader = FeatureReader(FLIGHT_DELAY, store)
    batch, as_of_us = requests(from_us, BATCH)
    reader.vectors(batch, as_of_us)  # the first call compiles plans

    def read_repeatedly() -> None:
        for _ in range(REPEATS):
            reader.vectors(batch, as_of_us)

    _, cost = measure(read_repeatedly)
    return Line(
        what=f"{len(FLIGHT_DELAY.numbers)} features of {BATCH} requests",
        unit="CPU ms",
        ours=cost.cpu_s / REPEATS * 1_000,
        bar=Bar(kind="at most", value=30),
    )


if __name__ == "__main__":
    sys.exit(main())

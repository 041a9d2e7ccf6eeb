"""Batches of synthetic sales for offline stores."""

from collections.abc import Sequence

import polars as pl

from features.definitions import EventType
from features.stores.ports import EventBatch
from infra.clock import DAY, SECOND
from infra.kafka.partitions import Partition
from tests.support.data.sales import SOLD, START_US, Sale
from tests.support.stores import P0

SECONDS_A_DAY = DAY // SECOND


def batch(
    *sales: Sale,
    start: int = 0,
    end: int | None = None,
    partition: Partition = P0,
    event: EventType = SOLD,
    **more: Sequence[object],
) -> EventBatch:
    """The sales as consecutive rows of one partition; `more` adds or replaces columns."""
    records = [s.record() for s in sales]
    columns: dict[str, Sequence[object]] = {
        field: [getattr(r, field) for r in records] for field in SOLD.fields
    }
    columns |= {
        "known_at_us": [s.known_us for s in sales],
        "ingest_time_us": [START_US] * len(sales),
        "partition": [partition.number] * len(sales),
        "offset": list(range(start, start + len(sales))),
    }
    return EventBatch(
        event=event,
        columns=columns | more,
        starts={partition: start},
        ends={partition: start + len(sales) if end is None else end},
    )


def ids(rows: pl.DataFrame) -> list[str]:
    """The sorted event ids of the rows."""
    return sorted(rows["event_id"].to_list())

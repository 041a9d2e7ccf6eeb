"""Made-up readings for the benchmarks of the feature store, in our stores and as Parquet for peers.

20 numbers of an entity; a tenth of the entities has half of the readings; 30 days; 5 % of the
readings reach us late, by an hour on average. Same arguments, same rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from features.definitions import (
    Aggregation,
    Decision,
    Entity,
    EventType,
    FeatureService,
    FeatureView,
    Float64Array,
    Int64Array,
)
from features.engine.event_rows import EventRows
from features.stores.ports import EventBatch, OfflineStore
from infra.clock import DAY, MILLISECOND, SECOND
from infra.kafka.partitions import Partition

FEATURES = tuple(f"f{i}" for i in range(20))
TTL = timedelta(days=7)
DAYS = 30
START_US = 1_767_225_600 * SECOND  # 2026-01-01
ENTITY = Entity(name="sensor", keys=("sensor",))

Reading = msgspec.defstruct(
    "Reading",
    [("event_id", str), ("event_time_us", int), ("sensor", str), *((f, float) for f in FEATURES)],
    frozen=True,
    kw_only=True,
    module=__name__,
)
Asked = msgspec.defstruct(
    "Asked",
    [("event_id", str), ("event_time_us", int), ("sensor", str)],
    frozen=True,
    kw_only=True,
    module=__name__,
)
READ = EventType(name="sensor.read", record=Reading, key="sensor", partitions=1)
ASKED = EventType(name="sensor.asked", record=Asked, key="sensor", partitions=1)
NEWEST = FeatureView(
    name="newest",
    source=READ,
    entity=ENTITY,
    aggregations=tuple(Aggregation(operation="last", column=f, windows=(TTL,)) for f in FEATURES),
)
SERVICE = FeatureService(
    name="newest",
    decision=Decision(
        request=ASKED, source=ASKED, entity_id="event_id", at=lambda e: e["event_time_us"]
    ),
    request_columns=(),
    views=(NEWEST,),
)
PARTITION = Partition(READ.name, 0)


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much there is."""

    readings: int
    labels: int
    entities: int


FULL = Size(readings=5_000_000, labels=1_000_000, entities=100_000)
QUICK = Size(readings=500_000, labels=100_000, entities=10_000)


@dataclass(frozen=True, kw_only=True)
class Readings:
    """Readings in the order of their emission. `values`: (readings, 20)."""

    sensor: Int64Array
    event_time_us: Int64Array
    known_at_us: Int64Array
    values: Float64Array

    def __len__(self) -> int:
        return len(self.sensor)

    def part(self, start: int, end: int) -> "Readings":
        """Some of them."""
        return Readings(
            sensor=self.sensor[start:end],
            event_time_us=self.event_time_us[start:end],
            known_at_us=self.known_at_us[start:end],
            values=self.values[start:end],
        )


def made_readings(size: Size, *, seed: int = 0) -> Readings:
    """All readings of the 30 days."""
    rng = np.random.default_rng(seed)
    n = size.readings
    emitted = np.sort(rng.integers(0, DAYS * DAY, n))
    lateness = np.where(
        rng.random(n) < 0.05, rng.exponential(3_600 * SECOND, n), rng.exponential(2 * SECOND, n)
    )
    # What Kafka keeps: milliseconds. And floats of 32 bits, so that the peer may keep them small.
    known = START_US + emitted // MILLISECOND * MILLISECOND
    return Readings(
        sensor=skewed(rng, n, size.entities),
        event_time_us=np.maximum(known - lateness.astype(np.int64), START_US),
        known_at_us=known,
        values=rng.random((n, len(FEATURES)), np.float32).astype(np.float64),
    )


def made_labels(size: Size, *, seed: int = 1) -> tuple[Int64Array, Int64Array]:
    """The sensor and the time of each label, from the third day on."""
    rng = np.random.default_rng(seed)
    sensor = skewed(rng, size.labels, size.entities)
    return sensor, rng.integers(2 * DAY, DAYS * DAY, size.labels) + START_US


def skewed(rng: np.random.Generator, n: int, entities: int) -> Int64Array:
    """A tenth of the entities gets half of them, beside its share of the rest."""
    hot = rng.random(n) < 0.5
    few, all_ = rng.integers(0, entities // 10, n), rng.integers(0, entities, n)
    return np.where(hot, few, all_)


def names(sensors: Int64Array) -> pl.Series:
    """Sensors as our events name them; the peer is given the numbers, which it joins faster."""
    return pl.Series("sensor", sensors).cast(pl.String)


def batches(readings: Readings, rows: int) -> Iterator[EventBatch]:
    """The readings as ingest hands them to the offline store, `rows` a commit."""
    for start in range(0, len(readings), rows):
        yield batch(readings.part(start, start + rows), first_offset=start)


def batch(readings: Readings, *, first_offset: int) -> EventBatch:
    """One commit."""
    n = len(readings)
    offsets = np.arange(first_offset, first_offset + n)
    columns: dict[str, Any] = {
        "event_id": event_ids(offsets),
        "event_time_us": readings.event_time_us,
        "sensor": names(readings.sensor).to_list(),
        **{f: readings.values[:, i] for i, f in enumerate(FEATURES)},
        "known_at_us": readings.known_at_us,
        "ingest_time_us": readings.known_at_us,
        "partition": np.zeros(n, np.int64),
        "offset": offsets,
    }
    return EventBatch(
        event=READ,
        columns=columns,
        starts={PARTITION: first_offset},
        ends={PARTITION: first_offset + n},
    )


def event_rows(readings: Readings, *, first_offset: int) -> EventRows:
    """The readings as ingest has them after decoding."""
    n = len(readings)
    offsets = np.arange(first_offset, first_offset + n)
    return EventRows(
        event=READ,
        fields={
            "event_id": event_ids(offsets),
            "event_time_us": readings.event_time_us.tolist(),
            "sensor": names(readings.sensor).to_list(),
            **{f: readings.values[:, i].tolist() for i, f in enumerate(FEATURES)},
        },
        partition=np.zeros(n, np.int64),
        offset=offsets,
        known_at_us=readings.known_at_us,
    )


def event_ids(offsets: Int64Array) -> list[str]:
    """Ids like those of real sources: text with a constant prefix."""
    return [f"reading-{offset:012d}" for offset in offsets.tolist()]


def fill(store: OfflineStore, readings: Readings, *, rows: int) -> None:
    """Append all of it, in commits of `rows`."""
    for batch in batches(readings, rows):
        store.append(batch)


def write_for_peer(folder: Path, readings: Readings, size: Size) -> None:
    """`readings.parquet` and `labels.parquet` with numbers as keys, floats of 32 bits."""
    when = pl.Datetime("us", "UTC")
    frame = pl.DataFrame(
        {
            "sensor": readings.sensor,
            "event_timestamp": pl.Series(readings.event_time_us).cast(when),
            "created": pl.Series(readings.known_at_us).cast(when),
            **{
                f: pl.Series(readings.values[:, i]).cast(pl.Float32) for i, f in enumerate(FEATURES)
            },
        }
    )
    frame.write_parquet(folder / "readings.parquet", row_group_size=250_000)
    sensor, at = made_labels(size)
    pl.DataFrame(
        {
            "label_id": np.arange(len(sensor)),
            "sensor": sensor,
            "event_timestamp": pl.Series(at).cast(when),
        }
    ).write_parquet(folder / "labels.parquet")

"""The recorded flights as ingest takes them from Kafka, without Kafka."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import msgspec
import polars as pl

from features.catalog.flights import DOMAIN
from features.catalog.flights.events import REQUESTED
from features.contracts.codec import decode, schema_headers
from features.definitions import Int64Array
from features.ingestion.decoding import Decoded, decode_poll
from infra.clock import MILLISECOND, MINUTE, now_us
from infra.kafka.partitions import Partition, Positions
from tests.support.data.recordings import flights_file


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """A record of the recording, with the answers of the client's message."""

    row: tuple[int, str, str, str, bytes]
    number: int
    place: int

    def topic(self) -> str:
        return self.row[1]

    def partition(self) -> int:
        return self.number

    def offset(self) -> int:
        return self.place

    def key(self) -> bytes:
        return self.row[3].encode()

    def value(self) -> bytes:
        return self.row[4]

    def headers(self) -> list[tuple[str, bytes]]:
        return schema_headers(DOMAIN.by_name[self.row[1]])

    def timestamp(self) -> tuple[int, int]:
        return 1, self.row[0] // MILLISECOND


def polls(until_us: int, *, records: int) -> Iterator[tuple[Decoded, Positions]]:
    """Everything that was emitted before a moment, in polls of so many records."""
    frame = pl.scan_parquet(flights_file()).filter(pl.col("known_at_us") < until_us).collect()
    ends: dict[Partition, int] = {}
    for part in frame.iter_slices(records):
        messages: list[Any] = [_message(row, ends) for row in part.iter_rows()]
        decoded = decode_poll(
            messages, DOMAIN.by_name, max_future_us=10 * MINUTE, clock_us=now_us()
        )
        yield decoded, dict(ends)


def requests(from_us: int, count: int) -> tuple[list[msgspec.Struct], Int64Array]:
    """The next prediction requests, and their emission times."""
    recorded = (
        pl.scan_parquet(flights_file())
        .filter(pl.col("event") == REQUESTED.name, pl.col("known_at_us") >= from_us)
        .head(count)
        .collect()
    )
    return [decode(REQUESTED, p) for p in recorded["payload"]], recorded["known_at_us"].to_numpy()


def _message(row: tuple[int, str, str, str, bytes], ends: dict[Partition, int]) -> Recorded:
    topic, key = row[1], row[3]
    partition = Partition(topic, crc32(key.encode()) % DOMAIN.by_name[topic].partitions)
    place = ends.get(partition, 0)
    ends[partition] = place + 1
    return Recorded(row=row, number=partition.number, place=place)

"""Slices of seen ids as bytes, the same in every store."""

import msgspec
import numpy as np

from features.engine.deduplication import SeenIds
from infra.kafka.partitions import Partition


def pack_seen(seen: SeenIds) -> bytes:
    """Ids and times; partition and first offset are in the key."""
    times = np.asarray(seen.known_at_us, "<i8").tobytes()
    return msgspec.msgpack.encode((times, list(seen.ids)))


def unpack_seen(partition: Partition, first_offset: int, value: bytes) -> SeenIds:
    """The slice that `pack_seen` has packed."""
    times, ids = msgspec.msgpack.decode(value, type=tuple[bytes, list[str]])
    return SeenIds(
        partition=partition,
        first_offset=first_offset,
        ids=ids,
        known_at_us=np.frombuffer(times, "<i8").astype(np.int64),
    )

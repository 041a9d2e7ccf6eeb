"""Recorded events in an offline store, without a broker."""

import numpy as np
import polars as pl

from features.contracts.codec import decode
from features.definitions import Domain
from features.engine.columns import field_tuples
from features.engine.event_rows import EventRows
from features.ingestion.offline_sink import OfflineSink
from features.stores.memory import MemoryOfflineStore
from infra.kafka.partitions import Partition


def stored(frame: pl.DataFrame, domain: Domain) -> MemoryOfflineStore:
    """A store that holds these rows of the domain's recording, one partition for each event."""
    store = MemoryOfflineStore()
    partitions = {event.name: Partition(event.name, 0) for event in domain.events}
    buffer = OfflineSink(store, domain.by_name, clock_us=lambda: 0)
    buffer.load(list(partitions.values()))
    for event in domain.events:
        part = frame.filter(event=event.name)
        records = [decode(event, payload) for payload in part["payload"]]
        rows = EventRows(
            event=event,
            fields=field_tuples(records, event.fields),
            partition=np.zeros(len(records), np.int64),
            offset=np.arange(len(records)),
            known_at_us=part["known_at_us"].to_numpy(),
        )
        buffer.add([rows], {partitions[event.name]: len(records)})
    buffer.flush()
    return store

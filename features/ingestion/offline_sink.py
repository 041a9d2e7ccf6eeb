"""The offline sink of ingest: buffers events and commits them in large batches."""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from features.definitions import EventType
from features.engine.event_rows import EventRows, not_yet_applied
from features.stores.log_entries import origins_of
from features.stores.log_gaps import OFFLINE, SinkPosition
from features.stores.ports import EventBatch, LogEntry, OfflineStore
from infra.kafka.logs import Origins
from infra.kafka.partitions import Partition, Positions


class OfflineSink:
    """Buffers the uncommitted events of the partitions that were given to `load`."""

    def __init__(
        self, store: OfflineStore, events: Mapping[str, EventType], *, clock_us: Callable[[], int]
    ) -> None:
        self._store, self._events, self._clock_us = store, events, clock_us
        self._positions: dict[Partition, int] = {}  # in the store
        self._taken: dict[Partition, int] = {}
        self._pieces: dict[str, list[tuple[EventRows, int]]] = {}
        self.rows = 0

    def find(self, partitions: Collection[Partition]) -> dict[Partition, SinkPosition]:
        """Where the store stands, and in which logs; partitions without a position are left out."""
        stored = self._store.positions({p.topic for p in partitions})
        origins = origins_of(self._store.log_entries())
        return {
            p: SinkPosition(sink=OFFLINE, position=stored[p], origin=origins.get(p))
            for p in partitions
            if p in stored
        }

    def origins(self) -> Origins:
        """The logs that the store has noted."""
        return origins_of(self._store.log_entries())

    def adopt(self, origins: Origins) -> None:
        """Note the logs of partitions that do not have theirs noted yet."""
        noted = origins_of(self._store.log_entries())
        new = {p: origin for p, origin in origins.items() if noted.get(p) != origin}
        if new:
            self._store.add_log_entries(
                [
                    LogEntry(
                        topic=p.topic, partition=p.number, origin=origin, since_us=self._clock_us()
                    )
                    for p, origin in sorted(new.items())
                ]
            )

    def load(self, partitions: Collection[Partition]) -> Positions:
        """Read positions from the store; partitions without one are left out.

        Raises:
            StoreUnavailable: the store does not respond.
        """
        stored = self._store.positions({p.topic for p in partitions})
        positions = {p: stored[p] for p in partitions if p in stored}
        self._positions |= {p: positions.get(p, 0) for p in partitions}
        return positions

    def add(self, rows: Sequence[EventRows], taken: Positions) -> None:
        """Buffer the events at or above our positions for the next `flush`."""
        now_us = self._clock_us()
        for of_topic in rows:
            new = not_yet_applied(of_topic, self._positions)
            if len(new):
                self._pieces.setdefault(new.event.name, []).append((new, now_us))
                self.rows += len(new)
        self._taken |= taken

    def drop(self) -> None:
        """Discard the buffer: its records will be read again."""
        self._pieces, self._taken, self.rows = {}, {}, 0

    def flush(self) -> int:
        """Commit the buffer with the positions; returns the number of rows.

        Raises:
            OffsetConflict, StoreUnavailable: some topics may be committed; `drop` and `load`.
        """
        moved = {p: o for p, o in self._taken.items() if o > self._positions[p]}
        for topic in sorted({p.topic for p in moved}):
            ends = {p: o for p, o in moved.items() if p.topic == topic}
            starts = {p: self._positions[p] for p in ends}
            self._store.append(
                EventBatch(
                    event=self._events[topic],
                    columns=_columns(self._events[topic], self._pieces.get(topic, [])),
                    starts=starts,
                    ends=ends,
                )
            )
            self._positions |= ends
        rows = self.rows
        self.drop()
        return rows


def _columns(event: EventType, pieces: Sequence[tuple[EventRows, int]]) -> dict[str, Sequence[Any]]:
    columns: dict[str, Any] = {
        name: list(chain.from_iterable(rows.fields[name] for rows, _ in pieces))
        for name in event.fields
    }
    nothing = np.empty(0, np.int64)
    for name in ("known_at_us", "partition", "offset"):
        columns[name] = np.concatenate([nothing, *(getattr(rows, name) for rows, _ in pieces)])
    stamps = [np.full(len(rows), at_us, np.int64) for rows, at_us in pieces]
    columns["ingest_time_us"] = np.concatenate([nothing, *stamps])
    return columns

"""The three sinks of ingest as one: where to read from, and in which order they are written."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import structlog

from features.engine.formulas import FAILURES
from features.engine.value_limits import DROPPED
from features.ingestion import metrics
from features.ingestion.dead_letter_sink import DeadLetterSink
from features.ingestion.decoding import BadRecord, Decoded
from features.ingestion.offline_sink import OfflineSink
from features.ingestion.online_sink import OnlineSink
from features.stores.log_gaps import (
    DEAD_LETTERS,
    SinkPosition,
    current_origin,
    find_gaps,
    newest_noted,
    raise_if_lost,
)
from infra.clock import SECOND
from infra.kafka.consumer import GroupConsumer
from infra.kafka.logs import Logs, Origins
from infra.kafka.partitions import Partition, Positions

log = structlog.get_logger()

ReadLogs = Callable[[Collection[Partition]], Logs]
"""What the brokers hold of these partitions."""


# Each keeps its own position: see docs/explanation/decisions/0001-offsets-beside-the-data.md
@dataclass(frozen=True, kw_only=True)
class Sinks:
    """Where events and bad records go. See `features.ingestion.loop` for the order of commits."""

    online: OnlineSink
    offline: OfflineSink
    dead_letters: DeadLetterSink

    def load(
        self, consumer: GroupConsumer, partitions: Collection[Partition], *, read_logs: ReadLogs
    ) -> Positions:
        """Load the positions of all sinks; returns the smallest one of each partition.

        A partition without a position in a sink starts at its first record. Each position is
        checked against the log, and the log against the one that the sink has read so far.

        Raises:
            PositionLost: a sink cannot continue; nothing was changed.
            StoreUnavailable, KafkaFailed: a sink does not respond.
            ViewSchemaMismatch: the online store was built under other declarations.
        """
        logs = read_logs(partitions)
        noted = newest_noted(self.offline.origins(), self.online.origins())
        positions = self._find(consumer, logs, noted)
        # The one who had the partitions before may have read beyond the ends that were read first.
        raise_if_lost(
            find_gaps(logs, positions, noted) and find_gaps(read_logs(partitions), positions, noted)
        )
        origins = {p: current_origin(log, positions[p], noted.get(p)) for p, log in logs.items()}
        self._adopt(origins)
        consumer.origins = {**consumer.origins, **origins}
        of_group = {
            p: s.position
            for p in partitions
            for s in positions[p]
            if s.sink == DEAD_LETTERS and s.position is not None
        }
        self.dead_letters.load(partitions, of_group)
        sinks = (self.online.load(partitions), self.offline.load(partitions), of_group)
        first = {p: log.first + origins[p].base for p, log in logs.items()}
        return {p: min(of_sink.get(p, first[p]) for of_sink in sinks) for p in partitions}

    def _find(
        self, consumer: GroupConsumer, logs: Logs, noted: Origins
    ) -> dict[Partition, list[SinkPosition]]:
        """Where each sink stands, by partition; sinks that were never anywhere are left out."""
        sinks = (
            self.online.find(logs),
            self.offline.find(logs),
            self.dead_letters.find(consumer, logs, noted),
        )
        return {p: [s[p] for s in sinks if p in s] for p in logs}

    def _adopt(self, origins: Origins) -> None:
        """Note the logs in the stores that do not know theirs yet."""
        self.online.adopt(origins)
        self.offline.adopt(origins)

    def write(self, decoded: Decoded, taken: Positions) -> None:
        """Commit a batch to the online store, and buffer it for the next `flush`.

        Raises:
            OffsetConflict, StoreUnavailable: `drop` the buffers and `load` the positions.
        """
        with metrics.STAGE_SECONDS.labels(stage="online").time():
            self.online.write(decoded.good, taken)
        self.offline.add(decoded.good, taken)
        new_bad_records = self.dead_letters.add(decoded.bad, taken)
        _count(decoded, new_bad_records)
        _count_failures()
        _count_dropped()
        metrics.DUPLICATES.set(self.online.duplicates)
        metrics.FORGOTTEN_IDS.set(self.online.forgotten_early)
        for view, events in self.online.left_out.items():
            metrics.LEFT_OUT.labels(view=view).set(events)

    def flush(self, consumer: GroupConsumer) -> None:
        """Commit the buffers. Offline first: the group's positions never run ahead of it.

        Raises:
            OffsetConflict, StoreUnavailable, TransactionAborted, TransactionUnclear: `drop` the
                buffers and `load` the positions.
        """
        with metrics.STAGE_SECONDS.labels(stage="offline").time():
            self.offline.flush()
        with metrics.STAGE_SECONDS.labels(stage="dead_letters").time():
            self.dead_letters.flush(consumer)

    def drop(self) -> None:
        """Discard the buffers: their records will be read again."""
        self.offline.drop()
        self.dead_letters.drop()


def _count_failures() -> None:
    for (formula, reason), rows in FAILURES.take().items():
        metrics.FORMULA_FAILURES.labels(formula=formula, reason=reason).inc(rows)
        log.warning("formula_failed", formula=formula, reason=reason, rows=rows)


def _count_dropped() -> None:
    for view, events in DROPPED.take().items():
        metrics.BEYOND_LIMIT.labels(view=view).inc(events)
        log.warning("entity_beyond_limit", view=view, events=events)


def _count(decoded: Decoded, new_bad_records: Sequence[BadRecord]) -> None:
    for rows in decoded.good:
        metrics.RECORDS.labels(topic=rows.event.name, outcome="good").inc(len(rows))
        metrics.NEWEST.set(int(rows.emissions_us.max()) / SECOND)
    for topic, n in Counter(b.message.topic() for b in decoded.bad).items():
        metrics.RECORDS.labels(topic=topic, outcome="bad").inc(n)
    for code, n in Counter(b.code for b in new_bad_records).items():
        metrics.DEAD_LETTERS.labels(error=code).inc(n)
        log.warning("dead_lettered", error=code, records=n)

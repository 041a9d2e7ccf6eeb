"""Ingest: events from Kafka into the online store, the offline store and the dead letters.

Each of these three sinks stores two things in one atomic write: the data, and for every partition
its position, the next offset to read. After a crash a sink therefore knows exactly what it holds,
and no transaction has to span two sinks. Ingest reads a partition from the smallest of its three
positions. A sink ignores records below its own position, so reading a record twice changes nothing.

The sinks are committed in this order:

1. The online store, after every poll: values, seen ids and positions in one transaction. Requests
   wait for these values, so they cannot wait for a flush.
2. The offline store, at every flush: one commit for each topic, with rows and positions. A commit
   of many rows costs as much as a commit of one, so rows are buffered until a flush.
3. Kafka, right after that: one transaction with the dead letters and the positions of the
   consumer group. It is last because others rely on the group's positions: what lies below them is
   in both stores or in the dead letters.

A crash between two of these commits leaves one sink ahead of the next. The restart reads the
difference again, and only the sink that lacks it applies it.

On any inconsistency ingest discards its buffers and restarts from the stored positions. This
covers a rebalance, a position that another writer has moved, a store that failed and an aborted
transaction. Only damaged values in the online store are repaired: the scrubber detects them, and
the online store is rebuilt from the offline one.
"""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import structlog

from features.contracts.codec import mostly_future
from features.definitions import EventType
from features.engine.value_format import CorruptValue
from features.errors import ClockDiffers, StalePositions, StoreDamaged, StoreUnavailable
from features.ingestion import metrics
from features.ingestion.decoding import decode_poll
from features.ingestion.outage import FIRST_PAUSE_S, Outage
from features.ingestion.scrubber import Scrubber
from features.ingestion.sinks import ReadLogs, Sinks
from infra.errors import EventideError
from infra.kafka.consumer import GroupConsumer, StartPositions, waiting_for_brokers
from infra.kafka.errors import (
    KafkaFailed,
    PositionLost,
    TransactionAborted,
    TransactionUnclear,
)
from infra.kafka.message import Message, size_of
from infra.kafka.partitions import Partition, Positions
from infra.process.readiness import Readiness
from infra.process.timing import Deadline, FlushTimer
from infra.process.watchdog import Watchdog

log = structlog.get_logger()

IDLE_S = 0.1
CHECK_EVERY_S = 0.25  # the online store, busy or idle
FLUSH_BYTES = 64 << 20  # of records; a few thousand of the largest ones
CONFLICTS_IN_A_ROW = 20  # then another process keeps writing our partitions


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The size of a batch, the size and age of a flush, how far event times may be ahead."""

    max_batch: int
    flush_rows: int
    flush_seconds: float
    max_future_us: int


@dataclass(frozen=True, kw_only=True)
class Connections:
    """What needs the brokers: retried until they respond."""

    open_producer: Callable[[], None]
    join: Callable[[StartPositions], GroupConsumer]
    read_logs: ReadLogs
    check_topics: Callable[[], None]  # raises PositionLost


class Ingest:
    """Reads events and writes them to the sinks until `stop` is set."""

    def __init__(
        self,
        sinks: Sinks,
        scrubber: Scrubber,
        connections: Connections,
        events: Mapping[str, EventType],
        *,
        limits: Limits,
        stop: threading.Event,
        watchdog: Watchdog,
        clock_us: Callable[[], int],
    ) -> None:
        self._sinks, self._scrubber = sinks, scrubber
        self._connections, self._events = connections, events
        self._limits, self._stop, self._watchdog, self._clock_us = limits, stop, watchdog, clock_us
        self._consumer: GroupConsumer | None = None
        self._epoch = 0
        self._readiness = Readiness()
        self._flush_timer = FlushTimer(limits.flush_seconds)
        self._outage = Outage(probation_s=limits.flush_seconds)
        self._next_check = Deadline()
        self._next_check.set(0)
        self._conflicts = 0  # since the last flush
        self._buffered_bytes = 0  # of records that wait for a flush
        self._load_error: StoreUnavailable | KafkaFailed | None = None

    def ready(self) -> tuple[bool, str]:
        """Whether events are being taken; if not, why."""
        reason = self._readiness.reason or waiting_for_brokers(self._consumer)
        return not reason, reason or "taking events"

    def run(self) -> None:
        """Run until `stop` is set, then write what was read.

        Raises:
            KafkaFailed: end the process; a new one continues from the positions in the sinks.
            ViewSchemaMismatch: the online store was built under other declarations.
        """
        # First: it aborts an open transaction of a predecessor, which hides the group's positions.
        if not self._open_producer():
            return
        consumer = self._consumer = self._connections.join(self._start_positions)
        self._readiness.clear()
        try:
            while not self._stop.is_set():
                self._watchdog.heartbeat()
                self._guarded(consumer, self._turn)
            self._readiness.block("stopping")
            self._guarded(consumer, self._flush)
        finally:
            self._readiness.block("stopping")
            metrics.READY.set(0)
            consumer.close()

    def _turn(self, consumer: GroupConsumer) -> None:
        """One poll and what follows from it."""
        self._connections.check_topics()
        self._resume_when_due(consumer)
        messages = consumer.poll(self._limits.max_batch, IDLE_S)
        self._update_metrics(consumer)
        if self._load_error is not None:
            error, self._load_error = self._load_error, None
            self._pause(consumer, error)
            return
        if consumer.epoch != self._epoch:
            self._epoch = consumer.epoch
            self._restart_from_stored_positions(consumer, why="rebalance")
            return
        if taken := consumer.taken:
            self._write(messages, taken)
            consumer.advance(taken)
        if self._flush_is_due():
            self._flush(consumer)
        if self._outage.probation_is_over and not self._flush_timer.is_running:
            # The positions were loaded, and no event has come since that could test the stores.
            self._end_outage()
        self._check_online_store(consumer)

    def _write(self, messages: Sequence[Message], taken: Positions) -> None:
        with metrics.STAGE_SECONDS.labels(stage="decode").time():
            decoded = decode_poll(
                messages,
                self._events,
                max_future_us=self._limits.max_future_us,
                clock_us=self._clock_us(),
            )
        if mostly_future([bad.reason for bad in decoded.bad], len(messages)):
            raise ClockDiffers(f"most of {len(messages)} records were emitted in the future")
        self._sinks.write(decoded, taken)
        self._buffered_bytes += sum(map(size_of, messages))
        self._flush_timer.start()

    def _flush(self, consumer: GroupConsumer) -> None:
        self._sinks.flush(consumer)
        self._flush_timer.stop()
        self._buffered_bytes = 0
        self._conflicts = 0
        self._end_outage()

    def _flush_is_due(self) -> bool:
        if not self._flush_timer.is_running:
            return False
        is_full = self._sinks.offline.rows >= self._limits.flush_rows
        return self._flush_timer.is_due or is_full or self._buffered_bytes >= FLUSH_BYTES

    def _check_online_store(self, consumer: GroupConsumer) -> None:
        """At intervals: an idle ingest writes nothing, so it would not notice a rebuild."""
        if not self._outage.is_paused and self._next_check.has_passed:
            self._next_check.set(CHECK_EVERY_S)
            self._sinks.online.check(consumer.owned)
            self._scrubber.scan()

    def _guarded(self, consumer: GroupConsumer, step: Callable[[GroupConsumer], None]) -> None:
        """Run a step. On an inconsistency discard the buffers and restart."""
        try:
            step(consumer)
        except StalePositions as error:
            self._conflicts += 1
            log.warning("position_moved", why=str(error), hint=error.hint, in_a_row=self._conflicts)
            if self._conflicts >= CONFLICTS_IN_A_ROW:
                raise
            self._restart_from_stored_positions(consumer, why="position_moved")
        except (TransactionAborted, TransactionUnclear) as error:
            log.warning("transaction_aborted", why=str(error))
            self._restart_from_stored_positions(consumer, why="transaction_aborted")
        except CorruptValue as error:
            metrics.DAMAGED.inc(len(error.indexes))
            self._repair(consumer, error)
        except StoreDamaged as error:
            self._repair(consumer, error)
        except (StoreUnavailable, ClockDiffers) as error:
            self._pause(consumer, error)

    def _repair(self, consumer: GroupConsumer, error: EventideError) -> None:
        log.error("online_store_damaged", why=str(error))
        self._readiness.block(f"the online store is being rebuilt: {error}")
        try:
            # The online store has these events: it must not be rebuilt without them.
            self._sinks.offline.flush()
            self._scrubber.repair(lambda _: self._watchdog.heartbeat())
        except (StoreUnavailable, StalePositions) as failed:
            self._pause(consumer, failed)  # the next scan meets the damage again
        else:
            metrics.REPAIRS.inc()
            self._readiness.clear()
            self._restart_from_stored_positions(consumer, why="damage")

    def _restart_from_stored_positions(self, consumer: GroupConsumer, *, why: str) -> None:
        metrics.RESTARTS.labels(why=why).inc()
        self._drop_buffers()
        consumer.forget_positions()

    def _drop_buffers(self) -> None:
        self._sinks.drop()
        self._buffered_bytes = 0
        self._flush_timer.stop()

    def _pause(self, consumer: GroupConsumer, error: EventideError) -> None:
        """Stay in the group, but read no records. The restart afterwards reads the dropped ones."""
        pause_s = self._outage.pause()
        why = "clock_differs" if isinstance(error, ClockDiffers) else "store_unavailable"
        log.error(why, why=str(error), hint=error.hint, again_in_s=pause_s)
        metrics.RESTARTS.labels(why=why).inc()
        self._drop_buffers()
        consumer.pause()
        self._readiness.block(str(error))

    def _resume_when_due(self, consumer: GroupConsumer) -> None:
        if self._outage.resume_if_due():
            consumer.resume()
            consumer.forget_positions()

    def _end_outage(self) -> None:
        self._readiness.clear()
        self._outage.end()

    def _start_positions(self, partitions: Collection[Partition]) -> Positions:
        """The start of newly assigned partitions: the smallest position of the three sinks."""
        assert self._consumer is not None
        try:
            starts = self._sinks.load(
                self._consumer, partitions, read_logs=self._connections.read_logs
            )
        except PositionLost:
            raise
        except (StoreUnavailable, KafkaFailed) as error:
            # Called inside a poll, which must not fail: the turn drops what this poll returns.
            self._load_error = error
            return {}
        log.info("partitions_placed", partitions=len(partitions), records_done=sum(starts.values()))
        return starts

    def _open_producer(self) -> bool:
        """Open it as soon as the brokers respond; False when ingest is to stop first."""
        while not self._stop.is_set():
            self._watchdog.heartbeat()
            try:
                self._connections.open_producer()
            except KafkaFailed as error:
                log.info("waiting", why=str(error))
                self._readiness.block(str(error))
                self._stop.wait(FIRST_PAUSE_S)
            else:
                return True
        return False

    def _update_metrics(self, consumer: GroupConsumer) -> None:
        metrics.PARTITIONS.set(len(consumer.owned))
        metrics.STALE_RECORDS.set(consumer.stale_records)
        metrics.BUFFERED.set(self._sinks.offline.rows)
        metrics.READY.set(self.ready()[0])

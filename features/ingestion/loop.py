"""Ingest: events from Kafka into three sinks, each of which keeps its own position.

The offline store, the online store and the dead letters each hold the next offset of every
partition together with what they were given, so no transaction has to span them. A partition
starts at the smallest of the three; a sink drops what lies below its own position. A crash
anywhere repeats work and changes nothing.

    every poll        online store: values, seen ids and positions in one transaction
    every flush       offline store: one commit a topic, rows and positions together;
                      then one Kafka transaction: dead letters and the group's positions

After any doubt (a rebalance, a position that moved, a store that failed, an aborted transaction)
nothing is mended: buffers are dropped and all three positions are read anew. One thing is: damaged
online values, which are looked for all the time. The online store is then made again from the
offline one.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import structlog

from features.definitions import EventType
from features.engine.state import CorruptValue
from features.errors import OffsetConflict, StoreDamaged, StoreUnavailable
from features.ingestion import metrics
from features.ingestion.dead_letter_sink import DeadLetterSink
from features.ingestion.decoding import BadRecord, Decoded, decode_poll
from features.ingestion.offline_sink import OfflineSink
from features.ingestion.online_sink import OnlineSink
from features.ingestion.scrubber import Scrubber
from infra.clock import SECOND
from infra.errors import EventideError
from infra.kafka.consumer import GroupConsumer, StartPositions, waiting_for_brokers
from infra.kafka.errors import KafkaFailed, TransactionAborted, TransactionUnclear
from infra.kafka.message import Message
from infra.kafka.partitions import Partition, Positions
from infra.process.watchdog import Watchdog

log = structlog.get_logger()

IDLE_S = 0.1
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
LOOK_S = 0.25  # between two looks at the online store
MOVES_IN_A_ROW = 20  # positions that move again and again: someone else writes our partitions


# Each keeps its own position: see docs/explanation/decisions/0001-offsets-beside-the-data.md
@dataclass(frozen=True, kw_only=True)
class Sinks:
    """Where events go."""

    online: OnlineSink
    scrubber: Scrubber
    offline: OfflineSink
    dead_letters: DeadLetterSink


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much is taken at once, how often it is written, which times are believed."""

    max_batch: int
    flush_rows: int
    flush_seconds: float
    max_future_us: int


@dataclass(frozen=True, kw_only=True)
class Connections:
    """What needs the brokers: tried again until they answer."""

    open_producer: Callable[[], None]
    join: Callable[[StartPositions], GroupConsumer]
    first_offsets: Callable[[Collection[Partition]], Positions]


class Ingest:
    """Takes events until it is told to stop."""

    def __init__(
        self,
        sinks: Sinks,
        connections: Connections,
        events: Mapping[str, EventType],
        *,
        limits: Limits,
        stop: threading.Event,
        watchdog: Watchdog,
        clock_us: Callable[[], int],
    ) -> None:
        self._sinks, self._connections, self._events = sinks, connections, events
        self._limits, self._stop, self._watchdog, self._clock_us = limits, stop, watchdog, clock_us
        self._consumer: GroupConsumer | None = None
        self._epoch = 0
        self._flush_at: float | None = None  # something waits for it since
        self._why_not = "starting"
        self._resume_at: float | None = None  # paused until
        self._quiet_at: float | None = None  # after a pause: not trusted until
        self._pause_s = FIRST_PAUSE_S
        self._moves = 0
        self._look_at = 0.0
        self._cannot_place: StoreUnavailable | KafkaFailed | None = None

    def ready(self) -> tuple[bool, str]:
        """Whether events are being taken; if not, why."""
        why = self._why_not or waiting_for_brokers(self._consumer)
        return not why, why or "taking events"

    def run(self) -> None:
        """Until `stop` is set; what was taken is written first.

        Raises:
            KafkaFailed: end the process; a new one goes on from the positions in the sinks.
            ViewSchemaMismatch: the online store was built under other declarations.
        """
        # First of all: it ends what a predecessor left open, which hides the group's positions.
        if not self._wait_for(self._connections.open_producer):
            return
        consumer = self._consumer = self._connections.join(self._start_positions)
        self._why_not = ""
        try:
            while not self._stop.is_set():
                self._watchdog.heartbeat()
                self._guarded(consumer, self._turn)
            self._why_not = "stopping"
            self._guarded(consumer, self._flush)
        finally:
            self._why_not = "stopping"
            metrics.READY.set(0)
            consumer.close()

    def _turn(self, consumer: GroupConsumer) -> None:
        """One poll and what follows from it."""
        self._resume_when_due(consumer)
        messages = consumer.poll(self._limits.max_batch, IDLE_S)
        self._show(consumer)
        if self._cannot_place is not None:
            error, self._cannot_place = self._cannot_place, None
            self._wait_out(consumer, error)
            return
        if consumer.epoch != self._epoch:
            self._epoch = consumer.epoch
            self._start_over(consumer, why="rebalance")
            return
        taken = consumer.taken
        if taken:
            self._take(messages, taken)
            consumer.advance(taken)
        if self._flush_is_due():
            self._flush(consumer)
        self._trust_when_quiet()
        self._look(consumer)

    def _look(self, consumer: GroupConsumer) -> None:
        """Now and then, busy or idle: an idle ingest does not write, and so would not notice."""
        if self._resume_at is None and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_S
            self._sinks.online.check(consumer.owned)
            self._sinks.scrubber.scan()

    def _take(self, messages: Sequence[Message], taken: Positions) -> None:
        with metrics.STAGE_SECONDS.labels(stage="decode").time():
            decoded = decode_poll(
                messages,
                self._events,
                max_future_us=self._limits.max_future_us,
                clock_us=self._clock_us(),
            )
        with metrics.STAGE_SECONDS.labels(stage="online").time():
            self._sinks.online.write(decoded.good, taken)
        self._sinks.offline.add(decoded.good, taken)
        new = self._sinks.dead_letters.add(decoded.bad, taken)
        _count(decoded, new)
        metrics.DUPLICATES.set(self._sinks.online.duplicates)
        if self._flush_at is None:
            self._flush_at = time.monotonic() + self._limits.flush_seconds

    def _flush(self, consumer: GroupConsumer) -> None:
        """Offline first: the group's positions never run ahead of the offline store."""
        with metrics.STAGE_SECONDS.labels(stage="offline").time():
            self._sinks.offline.flush()
        with metrics.STAGE_SECONDS.labels(stage="dead_letters").time():
            self._sinks.dead_letters.flush(consumer)
        self._flush_at = None
        self._moves = 0
        self._trust()

    def _flush_is_due(self) -> bool:
        if self._flush_at is None:
            return False
        full = self._sinks.offline.rows >= self._limits.flush_rows
        return full or time.monotonic() >= self._flush_at

    def _guarded(self, consumer: GroupConsumer, step: Callable[[GroupConsumer], None]) -> None:
        """Run a step; after any doubt drop what is in hand and start over from the positions."""
        try:
            step(consumer)
        except OffsetConflict as error:
            self._moves += 1
            log.warning("position_moved", why=str(error), hint=error.hint, in_a_row=self._moves)
            if self._moves >= MOVES_IN_A_ROW:
                raise
            self._start_over(consumer, why="position_moved")
        except (TransactionAborted, TransactionUnclear) as error:
            log.warning("transaction_aborted", why=str(error))
            self._start_over(consumer, why="transaction_aborted")
        except CorruptValue as error:
            metrics.DAMAGED.inc(len(error.indexes))
            self._repair(consumer, error)
        except StoreDamaged as error:
            self._repair(consumer, error)
        except StoreUnavailable as error:
            self._wait_out(consumer, error)

    def _repair(self, consumer: GroupConsumer, error: EventideError) -> None:
        log.error("online_store_damaged", why=str(error))
        self._why_not = f"the online store is being made again: {error}"
        try:
            # What was taken is in the online store, which must not go back behind it.
            self._sinks.offline.flush()
            self._sinks.scrubber.repair(lambda _: self._watchdog.heartbeat())
        except (StoreUnavailable, OffsetConflict) as failed:
            self._wait_out(consumer, failed)  # the damage is met again
        else:
            metrics.MENDED.inc()
            self._why_not = ""
            self._start_over(consumer, why="damage")

    def _start_over(self, consumer: GroupConsumer, *, why: str) -> None:
        metrics.START_OVERS.labels(why=why).inc()
        self._drop()
        consumer.forget_positions()

    def _drop(self) -> None:
        self._sinks.offline.drop()
        self._sinks.dead_letters.drop()
        self._flush_at = None

    def _wait_out(self, consumer: GroupConsumer, error: EventideError) -> None:
        """Pause, but stay in the group; nothing is lost, for nothing was advanced in the sinks."""
        log.error("store_unavailable", why=str(error), hint=error.hint, again_in_s=self._pause_s)
        metrics.START_OVERS.labels(why="store_unavailable").inc()
        self._drop()
        consumer.pause()
        self._why_not = str(error)
        self._resume_at = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def _resume_when_due(self, consumer: GroupConsumer) -> None:
        if self._resume_at is not None and time.monotonic() >= self._resume_at:
            self._resume_at = None
            self._quiet_at = time.monotonic() + self._limits.flush_seconds
            consumer.resume()
            consumer.forget_positions()

    def _trust(self) -> None:
        """What went wrong goes well again. One store alone says nothing: both were written."""
        self._why_not, self._quiet_at, self._pause_s = "", None, FIRST_PAUSE_S

    def _trust_when_quiet(self) -> None:
        """The positions were read, and nothing has come since that could show more."""
        if self._quiet_at is None or self._flush_at is not None or self._resume_at is not None:
            return
        if time.monotonic() >= self._quiet_at:
            self._trust()

    def _start_positions(self, partitions: Collection[Partition]) -> Positions:
        """The smallest position of the three sinks; what is in none of them starts at its first
        record. The sinks read theirs anew."""
        assert self._consumer is not None
        try:
            found = [
                self._sinks.online.load(partitions),
                self._sinks.offline.load(partitions),
                self._sinks.dead_letters.load(self._consumer, partitions),
            ]
            first = self._connections.first_offsets(partitions)
        except (StoreUnavailable, KafkaFailed) as error:
            # Called inside a poll, which must not fail: what it brings is dropped right after it.
            self._cannot_place = error
            return {}
        starts = {p: min(f.get(p, first[p]) for f in found) for p in partitions}
        log.info("partitions_placed", partitions=len(partitions), records_done=sum(starts.values()))
        return starts

    def _wait_for(self, opener: Callable[[], None]) -> bool:
        """Open it as soon as the brokers answer; False when we are to stop."""
        while not self._stop.is_set():
            self._watchdog.heartbeat()
            try:
                opener()
            except KafkaFailed as error:
                log.info("waiting", why=str(error))
                self._why_not = str(error)
                self._stop.wait(FIRST_PAUSE_S)
            else:
                return True
        return False

    def _show(self, consumer: GroupConsumer) -> None:
        metrics.PARTITIONS.set(len(consumer.owned))
        metrics.STALE.set(consumer.stale_records)
        metrics.BUFFERED.set(self._sinks.offline.rows)
        metrics.READY.set(self.ready()[0])


def _count(decoded: Decoded, new_dead_letters: Sequence[BadRecord]) -> None:
    for rows in decoded.good:
        metrics.RECORDS.labels(topic=rows.event.name, outcome="good").inc(len(rows))
        metrics.NEWEST.set(int(rows.known_at_us.max()) / SECOND)
    for topic, n in Counter(b.message.topic() for b in decoded.bad).items():
        metrics.RECORDS.labels(topic=topic, outcome="bad").inc(n)
    for code, n in Counter(b.code for b in new_dead_letters).items():
        metrics.DEAD_LETTERS.labels(error=code).inc(n)
        log.warning("dead_lettered", error=code, records=n)

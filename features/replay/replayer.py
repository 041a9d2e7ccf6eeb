"""Sends a recording into Kafka, every event once, however often the replay is interrupted.

A batch of events and the position after it are one Kafka transaction. So a killed replay continues
after its last committed batch. Each recording has its own transactional id, so a second replay of a
recording fences the first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec

from features.contracts.codec import schema_headers
from features.contracts.topics import REPLAY_PROGRESS
from features.definitions import EventType
from features.replay.plan import ReplayPlan
from infra.clock import MILLISECOND, SECOND
from infra.kafka.errors import TransactionAborted, TransactionUnclear
from infra.kafka.partitions import Partition
from infra.kafka.transactions import ProducerRecord, TransactionalProducer
from infra.process.watchdog import Watchdog

if TYPE_CHECKING:
    import polars as pl

BATCH = 5_000
ABORTS_IN_A_ROW = 10
SENT_WITHIN_S = 60.0  # one attempt at a batch; its calls end by themselves within 20, or never
_PROGRESS = Partition(REPLAY_PROGRESS, 0)
MOST_BEHIND_S = 1.0  # at a given speed: how much real time one batch may span


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows of a plan are sent; the value of a record in `replay.progress`."""

    sent: int
    of: int


ReadPosition = Callable[[str], Position | None]
"""Reads the committed position of a plan, by its key; None when it has none."""


class Pace(Protocol):
    """When a batch may be sent, and how far one may reach."""

    def batch_end(self, start: int) -> int:
        """Where the batch that starts at row `start` ends."""
        ...

    def before(self, start: int, end: int, /) -> None:
        """Return when rows `start` to `end` may be sent."""
        ...

    def after(self, start: int, end: int, arrived: Mapping[Partition, int], /) -> None:
        """Rows `start` to `end` are committed; `arrived` is filled when `wants_arrivals`."""
        ...

    @property
    def wants_arrivals(self) -> bool:
        """Whether `after` needs the positions of what was sent."""
        ...


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """The result of a replay; `before` rows had been sent earlier. `stopped`: it ended early."""

    sent: int
    before: int
    total: int
    seconds: float
    stopped: bool


def replay(
    plan: ReplayPlan,
    frame: pl.DataFrame,
    *,
    events: Mapping[str, EventType],
    producer: TransactionalProducer,
    read_position: ReadPosition,
    pace: Pace,
    restart: bool = False,
    stopping: Callable[[], bool] = lambda: False,
    on_progress: Callable[[int, int], None] = lambda _sent, _known_at_us: None,
) -> Replayed:
    """Send the rows that are not sent yet; `frame` is that of the plan.

    Ends early, between two batches, when `stopping` returns true.

    Raises:
        Fenced: another replay of the recording has started.
        ProducerFailed: the brokers do not answer.
    """
    producer.open()  # ends what a predecessor left open, so that the position is final
    position = None if restart else read_position(plan.key)
    before = at = position.sent if position else 0
    sender = _Sender(
        plan=plan, frame=frame, events=events, producer=producer, read_position=read_position
    )
    started = time.monotonic()
    for start, end in _batches(at, len(frame), pace):
        pace.before(start, end)
        if stopping():
            break
        arrived: dict[Partition, int] = {}
        with Watchdog(SENT_WITHIN_S) as watchdog:
            sender.send(start, end, arrived if pace.wants_arrivals else None, watchdog=watchdog)
        arrived.pop(_PROGRESS, None)  # ingest does not read that topic
        pace.after(start, end, arrived)
        at = end
        on_progress(at, int(frame["known_at_us"][end - 1]))
    return Replayed(
        sent=at - before,
        before=before,
        total=len(frame),
        seconds=time.monotonic() - started,
        stopped=at < len(frame),
    )


class AtSpeed:
    """As fast as possible, or `speed` times as fast as it happened."""

    wants_arrivals = False

    def __init__(
        self,
        frame: pl.DataFrame,
        *,
        speed: float | None,
        batch: int = BATCH,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._known_at_us = frame["known_at_us"].to_numpy()
        self._speed, self._batch, self._clock, self._sleep = speed, batch, clock, sleep
        self._zero: tuple[float, int] | None = None

    def batch_end(self, start: int) -> int:
        """At most `batch` rows, and at a given speed no more than a second's worth."""
        end = min(start + self._batch, len(self._known_at_us))
        if self._speed is None:
            return end
        horizon = self._known_at_us[start] + self._speed * MOST_BEHIND_S * SECOND
        within = int(self._known_at_us[start:end].searchsorted(horizon, "left"))
        return start + max(within, 1)

    def before(self, start: int, end: int) -> None:
        """Wait until the last of the rows would have been emitted."""
        if self._speed is None:
            return
        if self._zero is None:
            self._zero = (self._clock(), int(self._known_at_us[start]))
        began, first_us = self._zero
        due = began + (self._known_at_us[end - 1] - first_us) / SECOND / self._speed
        if (ahead := due - self._clock()) > 0:
            self._sleep(ahead)

    def after(self, _start: int, _end: int, _arrived: Mapping[Partition, int]) -> None:
        """Nothing has to be waited for."""


def _batches(start: int, total: int, pace: Pace) -> Iterator[tuple[int, int]]:
    while start < total:
        end = pace.batch_end(start)
        yield start, end
        start = end


@dataclass(frozen=True, kw_only=True)
class _Sender:
    """Commits one batch exactly once, through aborted and unclear transactions."""

    plan: ReplayPlan
    frame: pl.DataFrame
    events: Mapping[str, EventType]
    producer: TransactionalProducer
    read_position: ReadPosition

    def send(
        self, start: int, end: int, arrived: dict[Partition, int] | None, *, watchdog: Watchdog
    ) -> None:
        position = Position(sent=end, of=len(self.frame))
        key, value = self.plan.key.encode(), msgspec.json.encode(position)
        records = [
            *_records(self.frame[start:end], self.events),
            ProducerRecord(topic=REPLAY_PROGRESS, key=key, value=value),
        ]
        for attempt in range(1, ABORTS_IN_A_ROW + 1):
            watchdog.heartbeat()
            try:
                self.producer.send_all(records, arrived=arrived)
            except TransactionAborted:
                if attempt == ABORTS_IN_A_ROW:
                    raise
            except TransactionUnclear:
                if self.read_position(self.plan.key) == position:
                    return
            else:
                return


def _records(rows: pl.DataFrame, events: Mapping[str, EventType]) -> Iterator[ProducerRecord]:
    headers = {name: schema_headers(event) for name, event in events.items()}
    for known_at_us, event, key, payload in rows.select(
        "known_at_us", "event", "key", "payload"
    ).iter_rows():
        yield ProducerRecord(
            topic=event,
            value=payload,
            key=key.encode(),
            headers=headers[event],
            timestamp_ms=known_at_us // MILLISECOND,
        )

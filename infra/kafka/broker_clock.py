"""The brokers' time: the clock by which all processes agree which record lies in the future.

The clock of one machine may be minutes or days wrong, and it may step. A record sent to a topic
whose records get the broker's time comes back with it. From there the monotonic clock counts on.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import structlog
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, KafkaException, Producer

from infra.clock import SECOND, now_us
from infra.kafka.config import producer_config
from infra.kafka.message import Message
from infra.process.background import Background
from infra.settings import KafkaSettings

log = structlog.get_logger()

READ_EVERY_S = 60.0
RETRY_S = 5.0
ANSWER_S = 5.0
WORTH_SAYING_US = 60 * SECOND

ReadTime = Callable[[], int | None]


class _Anchor(NamedTuple):
    """A moment on both clocks."""

    broker_us: int
    monotonic_ns: int


class BrokerClock(Background):
    """The brokers' time; that of this machine until a broker has reported its own."""

    def __init__(
        self,
        read: ReadTime,
        *,
        machine_us: Callable[[], int] = now_us,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`read` asks the brokers, and returns None when they do not tell."""
        self._read, self._machine_us, self._monotonic_ns = read, machine_us, monotonic_ns
        self._anchor: _Anchor | None = None
        self._has_differed = False
        super().__init__("clock", self._watch)

    @property
    def is_set(self) -> bool:
        """Whether a broker has reported its time."""
        return self._anchor is not None

    def now_us(self) -> int:
        """The time in microseconds."""
        anchor = self._anchor
        if anchor is None:
            return self._machine_us()
        return anchor.broker_us + (self._monotonic_ns() - anchor.monotonic_ns) // 1_000

    def _watch(self, closed: threading.Event) -> None:
        while not closed.is_set():
            self._read_once()
            closed.wait(READ_EVERY_S if self.is_set else RETRY_S)

    def _read_once(self) -> None:
        before_ns = self._monotonic_ns()
        broker_us = self._read()
        if broker_us is None:
            return
        after_ns = self._monotonic_ns()
        self._anchor = _Anchor(broker_us, (before_ns + after_ns) // 2)
        ahead_us = self._machine_us() - broker_us
        differs = abs(ahead_us) > WORTH_SAYING_US
        if differs and not self._has_differed:
            log.warning("clock_differs", ahead_of_the_brokers_s=ahead_us // SECOND)
        self._has_differed = differs


def read_broker_time(kafka: KafkaSettings, topic: str) -> int | None:
    """The time of the broker that leads `topic`, in microseconds.

    None when it does not answer, or when the topic is not there, or does not stamp its records.
    """
    times: list[int] = []

    def note(error: KafkaError | None, message: Message) -> None:
        kind, milliseconds = message.timestamp()
        if error is None and kind == TIMESTAMP_LOG_APPEND_TIME:
            times.append(milliseconds * 1_000)

    config = producer_config(kafka, transactional_id=None)
    producer = Producer({**config, "linger.ms": 0, "delivery.timeout.ms": int(ANSWER_S * 1_000)})
    try:
        producer.produce(topic, b"", on_delivery=cast(Any, note))
        producer.flush(ANSWER_S)
    except (KafkaException, BufferError) as error:
        log.debug("broker_time_unknown", why=str(error))
    return times[0] if times else None

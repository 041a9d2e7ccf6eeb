"""The dead-letter sink of ingest: bad records and the group's positions in one transaction."""

from collections.abc import Callable, Collection, Sequence

from features.contracts.dead_letters import dead_letter, dead_letter_topic
from features.ingestion.decoding import BadRecord
from infra.kafka.consumer import GroupConsumer
from infra.kafka.errors import TooLarge
from infra.kafka.message import partition_of
from infra.kafka.partitions import Partition, Positions
from infra.kafka.transactions import TransactionalProducer

CONSUMER = "ingest"
DEAD_LETTERS = dead_letter_topic(CONSUMER)


class DeadLetterSink:
    """Buffers dead letters. Records below the group's position were dead-lettered already."""

    def __init__(self, producer: TransactionalProducer, *, clock_us: Callable[[], int]) -> None:
        self._producer, self._clock_us = producer, clock_us
        self._positions: dict[Partition, int] = {}
        self._taken: dict[Partition, int] = {}
        self._waiting: list[BadRecord] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def load(self, consumer: GroupConsumer, partitions: Collection[Partition]) -> Positions:
        """Read the group's positions; partitions without one are left out.

        Raises:
            KafkaException: no response, or a transaction over them is still open.
        """
        positions = dict(consumer.committed(partitions))
        self._positions |= {p: positions.get(p, 0) for p in partitions}
        return positions

    def add(self, bad: Sequence[BadRecord], taken: Positions) -> list[BadRecord]:
        """Buffer the records at or above our positions for the next `flush`; returns them."""
        new = [b for b in bad if b.message.offset() >= self._positions[partition_of(b.message)]]
        self._waiting += new
        self._taken |= taken
        return new

    def drop(self) -> None:
        """Discard the buffer: its records will be read again."""
        self._waiting, self._taken = [], {}

    def flush(self, consumer: GroupConsumer) -> None:
        """Send the buffer with the positions.

        Raises:
            TransactionAborted, TransactionUnclear: `drop` and `load`.
            Fenced, ProducerFailed: end the process.
        """
        moved = {p: o for p, o in self._taken.items() if o > self._positions[p]}
        if moved:
            try:
                self._send(consumer, moved, whole=True)
            except TooLarge:
                self._send(consumer, moved, whole=False)
            self._positions |= moved
        self.drop()

    def _send(self, consumer: GroupConsumer, moved: Positions, *, whole: bool) -> None:
        now_us = self._clock_us()
        records = [
            dead_letter(
                bad.message,
                consumer=CONSUMER,
                code=bad.code,
                reason=bad.reason,
                at_us=now_us,
                whole=whole,
            )
            for bad in self._waiting
        ]
        self._producer.send_all(records, offsets=moved, consumer=consumer)

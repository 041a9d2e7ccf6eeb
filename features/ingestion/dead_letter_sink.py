"""The dead-letter sink of ingest: bad records and the group's positions in one transaction."""

from collections.abc import Callable, Collection, Sequence

from features.contracts.dead_letters import LARGEST, SMALL, dead_letter, dead_letter_topic
from features.ingestion.decoding import BadRecord
from features.stores.group_positions import ReadWritten, group_positions_of
from features.stores.log_gaps import DEAD_LETTERS as SINK
from features.stores.log_gaps import SinkPosition
from infra.kafka.consumer import GroupConsumer
from infra.kafka.errors import TooLarge
from infra.kafka.logs import Logs, Origins
from infra.kafka.message import partition_of
from infra.kafka.partitions import Partition, Positions
from infra.kafka.transactions import TransactionalProducer

CONSUMER = "ingest"
DEAD_LETTERS = dead_letter_topic(CONSUMER)


class DeadLetterSink:
    """Buffers dead letters. Records below the group's position were dead-lettered already.

    `written` reads what the group last wrote: its positions may be gone.
    """

    def __init__(
        self,
        producer: TransactionalProducer,
        *,
        clock_us: Callable[[], int],
        written: ReadWritten,
    ) -> None:
        self._producer, self._clock_us, self._written = producer, clock_us, written
        self._positions: dict[Partition, int] = {}
        self._taken: dict[Partition, int] = {}
        self._waiting: list[BadRecord] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def find(
        self, consumer: GroupConsumer, logs: Logs, noted: Origins
    ) -> dict[Partition, SinkPosition]:
        """Where the group stands, in these logs; partitions that it never read are left out.

        Raises:
            KafkaException: no response, or a transaction over them is still open.
        """
        return group_positions_of(
            SINK, logs, consumer.commits(logs), noted, written=self._written, sparse=True
        )

    def load(self, partitions: Collection[Partition], positions: Positions) -> None:
        """Continue at these positions; partitions without one at 0."""
        self._positions |= {p: positions.get(p, 0) for p in partitions}

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
                self._send(consumer, moved, limit=LARGEST)
            except TooLarge:
                self._send(consumer, moved, limit=SMALL)
            self._positions |= moved
        self.drop()

    def _send(self, consumer: GroupConsumer, moved: Positions, *, limit: int) -> None:
        now_us = self._clock_us()
        records = [
            dead_letter(
                bad.message,
                consumer=CONSUMER,
                code=bad.code,
                reason=bad.reason,
                at_us=now_us,
                limit=limit,
            )
            for bad in self._waiting
        ]
        self._producer.send_all(records, offsets=moved, consumer=consumer)

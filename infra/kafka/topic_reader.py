"""Reads whole topics, outside any group."""

from collections.abc import Iterable, Iterator
from typing import cast

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from infra.kafka.admin import end_offsets, first_offsets
from infra.kafka.config import consumer_config
from infra.kafka.errors import ErrorKind, KafkaFailed, classify
from infra.kafka.logs import Origins
from infra.kafka.message import ClientError, Message, partition_of
from infra.kafka.partitions import Partition, Positions
from infra.kafka.shifted import as_stored
from infra.kafka.unreadable import end_of_unreadable, is_of_records
from infra.settings import KafkaSettings

BATCH = 1_000
SILENCE_LIMIT_S = 30.0
_WAIT_S = 0.5


def read_all(
    kafka: KafkaSettings,
    topics: Iterable[str],
    *,
    start: Positions | None = None,
    origins: Origins | None = None,
) -> Iterator[Message]:
    """Every committed record from `start` (or the beginning) to what is the end at the call.

    `start` are offsets in the logs. The records have the stored positions of `origins`.

    In order by partition; partitions are mixed. It does not wait for records that are sent later,
    but for open transactions: what they hold came before the call.

    Raises:
        KafkaFailed: a topic is not there, or no records come for a while.
    """
    names = list(topics)
    ends = end_offsets(kafka, names)
    starts = {**first_offsets(kafka, names), **(start or {})}
    left = {p: end for p, end in ends.items() if starts[p] < end}
    consumer = Consumer(consumer_config(kafka, group="eventide-reader", instance="reader"))
    try:
        consumer.assign([TopicPartition(p.topic, p.number, starts[p]) for p in left])
        for message in _read(kafka, consumer, left):
            yield as_stored(message, origins or {})
    finally:
        consumer.close()


def _read(
    kafka: KafkaSettings, consumer: Consumer, left: dict[Partition, int]
) -> Iterator[Message]:
    """Records below the ends in `left`; a partition is taken out of it at its end.

    Records that the client cannot read are skipped.
    """
    silent_s = 0.0
    while left:
        messages = cast(list[Message], consumer.consume(BATCH, _WAIT_S))
        silent_s = 0.0 if messages else silent_s + _WAIT_S
        if silent_s > SILENCE_LIMIT_S:
            raise KafkaFailed(f"no records for {SILENCE_LIMIT_S:.0f} s; unread: {sorted(left)}")
        for message in messages:
            partition = partition_of(message)
            if (error := message.error()) is not None and is_of_records(error, message):
                if partition in left:
                    _skip(kafka, consumer, left, partition, message.offset())
            elif error is not None:
                _raise_unless_harmless(error)
                _leave(left, partition, reached=_end_reached(error, message))
            elif partition in left and message.offset() < left[partition]:
                yield message
                _leave(left, partition, reached=message.offset() + 1)


def _skip(
    kafka: KafkaSettings,
    consumer: Consumer,
    left: dict[Partition, int],
    partition: Partition,
    offset: int,
) -> None:
    """Continue after an unreadable batch."""
    end = end_of_unreadable(kafka, partition, offset)
    consumer.seek(TopicPartition(partition.topic, partition.number, end))
    _leave(left, partition, reached=end)


def _end_reached(error: ClientError, message: Message) -> int:
    return message.offset() if error.code() == KafkaError._PARTITION_EOF else 0


def _leave(left: dict[Partition, int], partition: Partition, *, reached: int) -> None:
    """Remove a partition whose end is reached; the end may be a marker, which is no record."""
    if reached >= left.get(partition, reached + 1):
        del left[partition]


def _raise_unless_harmless(error: ClientError) -> None:
    if classify(error) not in (ErrorKind.NOT_AN_ERROR, ErrorKind.TRANSIENT):
        raise KafkaFailed(f"{error.name()}: {error.str()}") from KafkaException(error)

"""Records that the client cannot read: a damaged batch, an unknown or a hostile compression.

The client stops at such a batch and reports the offset of its first record again and again. It does
not say where the batch ends. A fetch from anywhere inside the batch returns the whole batch, so the
end is found by trying offsets.
"""

from collections.abc import Iterable
from typing import cast

from confluent_kafka import Consumer, KafkaError, TopicPartition

from infra.kafka.config import OPERATION_TIMEOUT_S, consumer_config
from infra.kafka.errors import KafkaFailed
from infra.kafka.message import ClientError, Message
from infra.kafka.partitions import Partition
from infra.settings import KafkaSettings

_OF_RECORDS = frozenset(
    {
        KafkaError._BAD_COMPRESSION,
        KafkaError._BAD_MSG,
        KafkaError._NOT_IMPLEMENTED,
        KafkaError._UNSUPPORTED_FEATURE,
        KafkaError.INVALID_MSG,
        KafkaError.INVALID_RECORD,
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.UNSUPPORTED_COMPRESSION_TYPE,
    }
)
_PROBE_S = 0.5


def is_of_records(error: ClientError, message: Message) -> bool:
    """Whether the error is about records at the message's offset, and not about the client."""
    return error.code() in _OF_RECORDS and not error.fatal() and (message.offset() or -1) >= 0


def end_of_unreadable(kafka: KafkaSettings, partition: Partition, offset: int) -> int:
    """The offset after the unreadable batch that holds `offset`; `offset` when it can be read now.

    Raises:
        KafkaFailed: the brokers do not respond.
    """
    config = consumer_config(kafka, group="eventide-reader", instance="probe")
    consumer = Consumer({**config, "isolation.level": "read_uncommitted"})
    try:
        if not _is_unreadable(consumer, partition, offset):
            return offset
        last, step = offset, 1
        while _is_unreadable(consumer, partition, last + step):
            last, step = last + step, step * 2
        end = last + step
        while end - last > 1:  # `last` is in the batch, `end` is not
            middle = (last + end) // 2
            if _is_unreadable(consumer, partition, middle):
                last = middle
            else:
                end = middle
        return end
    finally:
        consumer.close()


def _is_unreadable(consumer: Consumer, partition: Partition, offset: int) -> bool:
    """Whether a fetch from `offset` fails because of the batch that holds it."""
    # An offset beyond the end has no batch.
    place = TopicPartition(partition.topic, partition.number, offset)
    if offset >= consumer.get_watermark_offsets(place, timeout=OPERATION_TIMEOUT_S)[1]:
        return False
    consumer.assign([place])
    for message in _messages(consumer):
        error = message.error()
        if error is None:
            return False
        if is_of_records(error, message):
            return message.offset() <= offset
        if error.code() == KafkaError._PARTITION_EOF:
            return False
    raise KafkaFailed(f"no response for {partition.topic}-{partition.number}")


def _messages(consumer: Consumer) -> Iterable[Message]:
    for _ in range(int(OPERATION_TIMEOUT_S / _PROBE_S)):
        yield from cast(list[Message], consumer.consume(1, _PROBE_S))

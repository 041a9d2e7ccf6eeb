"""Partitions and positions in the client's form."""

from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaException, TopicPartition

from infra.kafka.errors import PositionLost
from infra.kafka.logs import CommittedPosition
from infra.kafka.partitions import Partition
from infra.kafka.retry import retry_transient


def partitions_of(partitions: Iterable[TopicPartition]) -> frozenset[Partition]:
    """The partitions that the client names."""
    return frozenset(Partition(p.topic, p.partition) for p in partitions)


def client_form(partition: Partition, offset: int | None = None) -> TopicPartition:
    """A partition, or a place in it."""
    if offset is None:
        return TopicPartition(partition.topic, partition.number)
    return TopicPartition(partition.topic, partition.number, offset)


def check_position(partition: Partition, position: int, first: int, end: int) -> None:
    """Raises PositionLost if the partition does not hold the position."""
    if not first <= position <= end:
        raise PositionLost(
            f"{partition.topic}-{partition.number} holds [{first}, {end}),"
            f" not the position {position}"
        )


def read_commits(
    client: Consumer, partitions: Iterable[Partition]
) -> dict[Partition, CommittedPosition]:
    """The offsets that the client's group has committed, each with the mark of its log.

    Raises:
        KafkaException: no response, or a transaction over these positions is still open.
    """
    wanted = [client_form(p) for p in partitions]
    offsets = retry_transient(lambda left_s: client.committed(wanted, timeout=left_s))
    for offset in offsets:
        if offset.error is not None:
            raise KafkaException(offset.error)
    return {
        Partition(o.topic, o.partition): CommittedPosition(o.offset, o.metadata or "")
        for o in offsets
        if o.offset >= 0
    }

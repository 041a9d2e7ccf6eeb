"""Positions as the brokers know them, read again and again over one connection.

A consumer that joins nothing reads them. The admin client opens a connection for each call, and its
call for a group's positions ends the whole process when the group's coordinator is just moving or
starting (librdkafka issue 5040).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

from infra.kafka.config import OPERATION_TIMEOUT_S, consumer_config
from infra.kafka.errors import KafkaFailed
from infra.kafka.partitions import Partition, Positions
from infra.kafka.retry import retry_transient
from infra.settings import KafkaSettings

_NO_GROUP = "eventide-observer"  # a consumer has to name one; this one has no members


def group_positions(kafka: KafkaSettings, group: str) -> Positions:
    """The committed positions of a consumer group; empty when it has none.

    Positions inside an open transaction do not count; those of a committed one show a moment after
    its commit returned.
    """
    with group_observer(kafka, group) as positions:
        return positions()


@contextmanager
def group_observer(kafka: KafkaSettings, group: str) -> Iterator[Callable[[], Positions]]:
    """`group_positions` as a callable that keeps its connection as long as the block."""
    with _observer(kafka, group) as consumer:

        def positions() -> Positions:
            try:
                topics = consumer.list_topics(timeout=OPERATION_TIMEOUT_S).topics
                every = [TopicPartition(t, n) for t in topics for n in topics[t].partitions]
                offsets = retry_transient(lambda left_s: consumer.committed(every, timeout=left_s))
            except KafkaException as error:
                raise KafkaFailed(f"group {group}: {error.args[0].str()}") from error
            return {Partition(o.topic, o.partition): o.offset for o in offsets if o.offset >= 0}

        yield positions


@contextmanager
def end_observer(
    kafka: KafkaSettings, partitions: Iterable[Partition], *, limit_s: float = OPERATION_TIMEOUT_S
) -> Iterator[Callable[[], Positions]]:
    """`admin.end_offsets` of these partitions as a callable that keeps its connections.

    Partitions that their topics have got since are in its result too. A call is one request to each
    broker, and one for the topics. It raises KafkaFailed when there is no response within
    `limit_s`.
    """
    observed = set(partitions)
    with _observer(kafka, _NO_GROUP) as consumer:

        def ends() -> Positions:
            try:
                observed.update(_partitions_of(consumer, {p.topic for p in observed}, limit_s))
                # A time that lies after every record means the end; of many partitions at once.
                after_all = [TopicPartition(p.topic, p.number, OFFSET_END) for p in observed]
                offsets = retry_transient(
                    lambda left_s: consumer.offsets_for_times(after_all, timeout=left_s),
                    limit_s=limit_s,
                )
            except KafkaException as error:
                raise KafkaFailed(f"cannot read end offsets: {error.args[0].str()}") from error
            return {Partition(o.topic, o.partition): o.offset for o in offsets if o.error is None}

        yield ends


def _partitions_of(consumer: Consumer, topics: set[str], limit_s: float) -> Iterator[Partition]:
    """The partitions that the topics have now."""
    if not topics:
        return
    known = consumer.list_topics(timeout=limit_s).topics
    for topic in topics & known.keys():
        yield from (Partition(topic, number) for number in known[topic].partitions)


@contextmanager
def _observer(kafka: KafkaSettings, group: str) -> Iterator[Consumer]:
    config = consumer_config(kafka, group=group, instance="observer")
    consumer = Consumer({**config, "isolation.level": "read_uncommitted"})
    try:
        yield consumer
    finally:
        consumer.close()

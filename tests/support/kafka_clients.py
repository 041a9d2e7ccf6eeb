"""Consumers and transactional producers of a test, and one round of copying between topics."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Producer

from infra.kafka.consumer import GroupConsumer, StartPositions
from infra.kafka.message import Message
from infra.kafka.transactions import ProducerRecord, TransactionalProducer
from infra.settings import KafkaSettings
from tests.support.waiting import wait_until


@contextmanager
def a_consumer(
    kafka: KafkaSettings,
    topic: str,
    *,
    instance: str = "0",
    start_positions: StartPositions | None = None,
) -> Iterator[GroupConsumer]:
    """A consumer of one topic, in a group named after it; closed at the end of the block."""
    consumer = GroupConsumer(
        kafka,
        group=f"group-of-{topic}",
        instance=instance,
        topics=[topic],
        start_positions=start_positions,
    )
    yield consumer
    consumer.close()


@contextmanager
def a_producer(
    kafka: KafkaSettings, name: str, *, first_client: type[Producer] = Producer
) -> Iterator[TransactionalProducer]:
    """A transactional producer, closed at the end of the block.

    `first_client` is the class of its first client; a rebuilt producer has an ordinary one.
    """
    classes = iter([first_client])

    def make_client(config: dict[str, Any]) -> Producer:
        return next(classes, Producer)(config)

    producer = TransactionalProducer(
        kafka, transactional_id=f"id-of-{name}", make_client=make_client
    )
    yield producer
    producer.close()


def poll_until(
    consumer: GroupConsumer,
    enough: Callable[[list[Message]], bool],
    *,
    advance: bool = True,
    limit_s: float = 30.0,
) -> list[Message]:
    """Poll until the messages are enough; fail when they are not within the limit."""
    messages: list[Message] = []

    def polled_enough() -> bool:
        if enough(messages):
            return True
        messages.extend(consumer.poll(500, 0.1))
        if advance:
            consumer.advance(consumer.taken)
        return enough(messages)

    wait_until(polled_enough, what="enough records have come", limit_s=limit_s, pause_s=0)
    return messages


def copy_all(
    consumer: GroupConsumer, producer: TransactionalProducer, target: str
) -> list[Message]:
    """One round of consume, produce and commit."""
    messages = consumer.poll(200, 0.1)
    if consumer.taken:
        records = [ProducerRecord(topic=target, key=m.key(), value=m.value()) for m in messages]
        producer.send_all(records, offsets=consumer.taken, consumer=consumer)
        consumer.advance(consumer.taken)
    return messages

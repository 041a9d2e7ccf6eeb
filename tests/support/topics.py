"""Topics of a test's own on a real broker: create, fill and read them."""

import uuid
from collections.abc import Iterable, Sequence

from confluent_kafka import Producer

from infra.kafka.admin import TopicSpec, ensure_topics
from infra.kafka.config import producer_config
from infra.kafka.message import Message
from infra.kafka.topic_reader import read_all
from infra.settings import KafkaSettings


def new_topics(kafka: KafkaSettings, *names: str, partitions: int = 4) -> list[str]:
    """New topics, with names that no other test uses."""
    unique = uuid.uuid4().hex[:8]
    topics = [f"{name}-{unique}" for name in names]
    ensure_topics(kafka, [TopicSpec(name=t, partitions=partitions) for t in topics])
    return topics


def feed(
    kafka: KafkaSettings,
    topic: str,
    values: Iterable[bytes | None],
    *,
    key: bytes | None = None,
    partition: int = -1,
    headers: Sequence[tuple[str, bytes]] = (),
) -> None:
    """Send values without a transaction and wait until the broker has them."""
    producer = Producer(producer_config(kafka, transactional_id=None))
    for value in values:
        producer.produce(topic, value, key, partition, headers=list(headers))
    assert producer.flush(30) == 0


def committed(kafka: KafkaSettings, *topics: str) -> list[Message]:
    """Every committed record of the topics."""
    return list(read_all(kafka, topics))


def values(kafka: KafkaSettings, *topics: str) -> list[bytes]:
    """The values of every committed record, sorted."""
    return sorted(m.value() or b"" for m in committed(kafka, *topics))

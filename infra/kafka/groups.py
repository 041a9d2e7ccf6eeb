"""Moves the positions of a consumer group that nobody is a member of."""

from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaException, TopicPartition

from infra.kafka.admin import members_of
from infra.kafka.client_partitions import read_commits
from infra.kafka.config import OPERATION_TIMEOUT_S, consumer_config
from infra.kafka.errors import KafkaFailed
from infra.kafka.logs import CommittedPosition, LogOrigin
from infra.kafka.partitions import Partition
from infra.kafka.retry import retry_transient
from infra.settings import KafkaSettings


def check_stopped(kafka: KafkaSettings, group: str) -> None:
    """Raises KafkaFailed while the group has members."""
    if members := members_of(kafka, group):
        raise KafkaFailed(
            f"the group {group} has {members} members",
            hint="stop ingest and serving first: `eventide down`, then `eventide up --only kafka`",
        )


def commits_of(
    kafka: KafkaSettings, group: str, partitions: list[Partition]
) -> dict[Partition, CommittedPosition]:
    """The offsets that the group has committed, each with the mark of its log.

    Raises:
        KafkaFailed: no response.
    """
    consumer = Consumer(consumer_config(kafka, group=group, instance="observer"))
    try:
        return read_commits(consumer, partitions)
    except KafkaException as error:
        raise KafkaFailed(f"group {group}: {error.args[0].str()}") from error
    finally:
        consumer.close()


def commit_for(
    kafka: KafkaSettings, group: str, positions: Mapping[Partition, tuple[int, LogOrigin]]
) -> None:
    """Set stored positions of the group, each with the origin of its log.

    Raises:
        KafkaFailed: the group has members, or there is no response within `OPERATION_TIMEOUT_S`.
    """
    offsets = [
        TopicPartition(p.topic, p.number, position - origin.base, origin.mark)
        for p, (position, origin) in positions.items()
    ]
    consumer = Consumer(consumer_config(kafka, group=group, instance="observer"))
    try:
        retry_transient(
            lambda _: consumer.commit(offsets=offsets, asynchronous=False),
            limit_s=OPERATION_TIMEOUT_S,
        )
    except KafkaException as error:
        raise KafkaFailed(f"group {group}: {error.args[0].str()}") from error
    finally:
        consumer.close()

"""What operators and accidents do to topics and groups."""

from typing import Any

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from features.catalog import domains
from features.contracts.topics import topic_specs
from infra.kafka.admin import ensure_topics, topic_ids
from infra.kafka.errors import KafkaFailed
from infra.kafka.partitions import Positions
from infra.settings import KafkaSettings
from tests.support.waiting import wait_until


def create_again(kafka: KafkaSettings, *topics: str) -> None:
    """Delete topics and create them again, empty."""
    admin = _admin(kafka)
    before = topic_ids(kafka, topics)
    for future in admin.delete_topics(list(topics)).values():
        future.result(30)
    specs = [s for s in topic_specs(domains()) if s.name in topics]

    def are_new() -> bool:
        try:
            ensure_topics(kafka, specs)
            return all(new != before[t] for t, new in topic_ids(kafka, topics).items())
        except KafkaFailed:
            return False

    wait_until(are_new, what="the topics are there again", pause_s=0.2)


def delete_records(kafka: KafkaSettings, before: Positions) -> None:
    """Delete the records below these offsets, as retention does."""
    places = [TopicPartition(p.topic, p.number, offset) for p, offset in before.items()]
    admin = _admin(kafka)  # by name: a client that is not referred to cancels its calls
    _finish(admin.delete_records(places))


def delete_groups(kafka: KafkaSettings, *groups: str) -> None:
    """Delete the positions of groups, as the brokers do when nobody was a member for long."""
    admin = _admin(kafka)

    def deleted() -> bool:
        try:
            _finish(admin.delete_consumer_groups(list(groups)))
        except Exception as error:  # noqa: BLE001  # its members have not left yet
            return "NON_EMPTY" not in str(error) and _raise(error)
        return True

    wait_until(deleted, what="the groups are deleted", pause_s=0.5)


def _raise(error: Exception) -> bool:
    raise error


def _finish(futures: dict[Any, Any]) -> None:
    for future in futures.values():
        future.result(30)


def _admin(kafka: KafkaSettings) -> Any:
    return AdminClient({"bootstrap.servers": kafka.bootstrap_servers})

"""A record as the client hands it over."""

from typing import Protocol

from confluent_kafka import KafkaError

from infra.kafka.partitions import Partition


class Message(Protocol):
    """The client's message, with what is always there once it came from a broker."""

    def topic(self) -> str:
        """Its topic."""
        ...

    def partition(self) -> int:
        """The number of its partition."""
        ...

    def offset(self) -> int:
        """Its place in the partition."""
        ...

    def key(self) -> bytes | None:
        """Its key."""
        ...

    def value(self) -> bytes | None:
        """Its value; None for a tombstone."""
        ...

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        """Its headers, in order; None without any."""
        ...

    def timestamp(self) -> tuple[int, int]:
        """The kind of its timestamp, and milliseconds since 1970."""
        ...

    def error(self) -> KafkaError | None:
        """What is wrong, when this is no record; `GroupConsumer.poll` gives none of these."""
        ...


def partition_of(message: Message) -> Partition:
    """The partition it came from."""
    return Partition(message.topic(), message.partition())

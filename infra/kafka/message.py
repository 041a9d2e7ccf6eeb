"""A record as the client library returns it."""

from typing import Protocol

from infra.kafka.partitions import Partition


class ClientError(Protocol):
    """The client's error; a protocol, so that code which takes a `Message` need not load it."""

    def code(self) -> int:
        """Its number; negative for errors of the client itself."""
        ...

    def name(self) -> str:
        """Its constant, such as `_PARTITION_EOF`."""
        ...

    def str(self) -> str:
        """Its sentence."""
        ...

    def fatal(self) -> bool:
        """Whether the client is of no further use."""
        ...

    def retriable(self) -> bool:
        """Whether the same call may succeed later."""
        ...


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

    def error(self) -> ClientError | None:
        """What is wrong, when this is no record; `GroupConsumer.poll` gives none of these."""
        ...


def partition_of(message: Message) -> Partition:
    """The partition it came from."""
    return Partition(message.topic(), message.partition())

"""A record as the client library returns it."""

from gc import get_referents
from operator import methodcaller
from typing import Protocol

from infra.errors import EventideError
from infra.kafka.partitions import Partition

Headers = list[tuple[str, bytes | None]]


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

    def headers(self) -> Headers | None:
        """Its headers, in order; None without any."""
        ...

    def timestamp(self) -> tuple[int, int]:
        """The kind of its timestamp, and milliseconds since 1970."""
        ...

    def error(self) -> ClientError | None:
        """What is wrong, when this is no record; `GroupConsumer.poll` gives none of these."""
        ...


class UnreadableMessage:
    """Stands for a record that cannot be read: its place is all that is known of it."""

    __slots__ = ("_offset", "_partition", "why")

    def __init__(self, partition: Partition, offset: int, *, why: str) -> None:
        self._partition, self._offset, self.why = partition, offset, why

    def at(self, offset: int) -> "UnreadableMessage":
        """The same record under another offset."""
        return UnreadableMessage(self._partition, offset, why=self.why)

    def topic(self) -> str:
        return self._partition.topic

    def partition(self) -> int:
        return self._partition.number

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes | None:
        return None

    def value(self) -> bytes | None:
        return None

    def headers(self) -> Headers | None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 0, 0

    def error(self) -> ClientError | None:
        return None


_NOT_UTF_8 = "the name of a header is not UTF-8"


class UnreadableHeaders(EventideError):
    """The headers of a record cannot be read, such as one whose name is not UTF-8."""


# For a name that is not UTF-8 the client gives a tuple with a hole, and sets an exception without
# raising it. Python's fast path for methods does not notice; the next look into the hole ends the
# whole process. This way of calling a method notices.
_read_headers = methodcaller("headers")


def headers_of(message: Message) -> Headers:
    """The headers of a record; empty without any. The only safe way to read them.

    Raises:
        UnreadableHeaders: they cannot be read.
    """
    try:
        headers: Headers | None = _read_headers(message)
    except (SystemError, UnicodeError) as error:
        raise UnreadableHeaders(_NOT_UTF_8) from error
    # Asked again, the client returns the tuple with the hole, without any exception.
    if headers and len(get_referents(*headers)) != 2 * len(headers):
        raise UnreadableHeaders(_NOT_UTF_8)
    return headers or []


def readable_headers(message: Message) -> Headers:
    """The headers of a record; empty without any that can be read."""
    try:
        return headers_of(message)
    except UnreadableHeaders:
        return []


def size_of(message: Message) -> int:
    """The bytes of its key, value and headers."""
    headers = readable_headers(message)
    of_headers = sum(len(name) + len(value or b"") for name, value in headers) if headers else 0
    return len(message.value() or b"") + len(message.key() or b"") + of_headers


def partition_of(message: Message) -> Partition:
    """The partition it came from."""
    return Partition(message.topic(), message.partition())

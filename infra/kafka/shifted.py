"""Records whose offset is their stored position: see `infra.kafka.logs`."""

from infra.kafka.logs import Origins
from infra.kafka.message import (
    ClientError,
    Headers,
    Message,
    UnreadableMessage,
    headers_of,
    partition_of,
)


def as_stored(message: Message, origins: Origins) -> Message:
    """The record with its stored position as its offset."""
    if not origins:
        return message
    origin = origins.get(partition_of(message))
    if origin is None or not origin.base:
        return message
    if isinstance(message, UnreadableMessage):
        return message.at(message.offset() + origin.base)
    return ShiftedMessage(message, origin.base)


class ShiftedMessage:
    """A message of a log with a base; all but its offset is as in the log."""

    __slots__ = ("_base", "_message")

    def __init__(self, message: Message, base: int) -> None:
        self._message, self._base = message, base

    def topic(self) -> str:
        return self._message.topic()

    def partition(self) -> int:
        return self._message.partition()

    def offset(self) -> int:
        return self._message.offset() + self._base

    def key(self) -> bytes | None:
        return self._message.key()

    def value(self) -> bytes | None:
        return self._message.value()

    def headers(self) -> Headers | None:
        return headers_of(self._message)

    def timestamp(self) -> tuple[int, int]:
        return self._message.timestamp()

    def error(self) -> ClientError | None:
        return self._message.error()

"""Dead letters: the raw key and value of a rejected record, and headers that say why.

The value is the record's own bytes, unchanged, so that a copy of it can be sent again.
"""

from collections.abc import Sequence
from typing import NamedTuple

from infra.kafka.message import Headers, Message, readable_headers
from infra.kafka.partitions import Partition
from infra.kafka.transactions import ProducerRecord

SUFFIX = ".dlq"
HEADER_PREFIX = "dlq."
LARGEST = 1_900_000
"""Bytes of a dead letter: below the `max.message.bytes` that its topic is declared with."""
SMALL = 200_000
"""Bytes of a dead letter for a topic that takes less than it is declared with."""


def dead_letter_topic(consumer: str) -> str:
    """The dead-letter topic of a consumer: `ingest.dlq` or `serving.dlq`."""
    return f"{consumer}{SUFFIX}"


def dead_letter(
    message: Message, *, consumer: str, code: str, reason: str, at_us: int, limit: int = LARGEST
) -> ProducerRecord:
    """The dead letter of a message, of at most about `limit` bytes.

    What does not fit is left out: the key, the headers or the value, each as a whole. Headers then
    say so, and where the record is.
    """
    kept = _fitting(message.key(), readable_headers(message), message.value(), limit=limit)
    marks: list[tuple[str, bytes | None]] = [
        *dead_letter_headers(
            consumer=consumer,
            topic=message.topic(),
            partition=message.partition(),
            offset=message.offset(),
            timestamp_ms=message.timestamp()[1],
            code=code,
            reason=reason,
            at_us=at_us,
        )
    ]
    if kept.cut:
        marks.append((f"{HEADER_PREFIX}truncated", b"1"))
        marks.append((f"{HEADER_PREFIX}cut", ",".join(kept.cut).encode()))
    return ProducerRecord(
        topic=dead_letter_topic(consumer),
        key=kept.key,
        value=kept.value,
        headers=[*kept.headers, *marks],
    )


class _Kept(NamedTuple):
    """What of a record fits into its dead letter, and the names of what does not."""

    key: bytes | None
    headers: Headers
    value: bytes | None
    cut: Sequence[str]


def _fitting(key: bytes | None, headers: Headers, value: bytes | None, *, limit: int) -> _Kept:
    """A key and headers may take an eighth of the limit each, so that most is left for a value."""
    cut = []
    if key is not None and len(key) > limit // 8:
        key, cut = None, ["key"]
    if sum(len(name) + len(content or b"") + 8 for name, content in headers) > limit // 8:
        headers, cut = [], [*cut, "headers"]
    if value is not None and len(value) > limit // 4 * 3:
        value, cut = None, [*cut, "value"]
    return _Kept(key, headers, value, cut)


def source_of_dead_letter(message: Message) -> tuple[Partition, int] | None:
    """The partition and the position of the record in a dead letter; None if it names none."""
    headers = {k: v or b"" for k, v in readable_headers(message) if k.startswith(HEADER_PREFIX)}
    try:
        topic, number, offset = (
            headers[f"{HEADER_PREFIX}{name}"].decode() for name in ("topic", "partition", "offset")
        )
        return Partition(topic, int(number)), int(offset)
    except (KeyError, ValueError):
        return None


def dead_letter_headers(
    *,
    consumer: str,
    topic: str,
    partition: int,
    offset: int,
    timestamp_ms: int,
    code: str,
    reason: str,
    at_us: int,
) -> list[tuple[str, bytes]]:
    """Headers of a dead letter; the original headers are kept beside them.

    `reason` is cut to 300 bytes and never quotes the payload.
    """
    fields = {
        "v": "1",
        "consumer": consumer,
        "topic": topic,
        "partition": str(partition),
        "offset": str(offset),
        "timestamp-ms": str(timestamp_ms),
        "error": code,
        "message": reason,
        "at-us": str(at_us),
    }
    return [(HEADER_PREFIX + k, v.encode()[:300]) for k, v in fields.items()]

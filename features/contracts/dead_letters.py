"""Dead letters: the raw key and value of a rejected record, and headers that say why.

The value is the record's own bytes, unchanged, so that a copy of it can be sent again.
"""

from infra.kafka.message import Message
from infra.kafka.transactions import ProducerRecord

SUFFIX = ".dlq"
HEADER_PREFIX = "dlq."


def dead_letter_topic(consumer: str) -> str:
    """The dead-letter topic of a consumer: `ingest.dlq` or `serving.dlq`."""
    return f"{consumer}{SUFFIX}"


def dead_letter(
    message: Message, *, consumer: str, code: str, reason: str, at_us: int, whole: bool = True
) -> ProducerRecord:
    """The dead letter of a message. Without `whole`, for a record that is too large for the topic,
    it has no value but says where the record is.
    """
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
    if not whole:
        marks.append((f"{HEADER_PREFIX}truncated", b"1"))
    return ProducerRecord(
        topic=dead_letter_topic(consumer),
        key=message.key(),
        value=message.value() if whole else None,
        headers=[*(message.headers() or ()), *marks],
    )


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

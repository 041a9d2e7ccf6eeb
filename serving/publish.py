"""From answers to the records that are sent."""

from collections.abc import Sequence

import msgspec

from features.contracts.dead_letters import dead_letter, dead_letter_topic
from features.contracts.predictions import SCHEMA
from infra.kafka.message import Message
from infra.kafka.transactions import ProducerRecord
from serving.score import Answer

CONSUMER = "serving"
DEAD_LETTERS = dead_letter_topic(CONSUMER)
TRACE_HEADER = "traceparent"
_SCHEMA_HEADER = ("schema", SCHEMA.encode())
_encode = msgspec.json.Encoder().encode


def records_for(
    messages: Sequence[Message],
    answers: Sequence[Answer],
    *,
    topic: str,
    same_partitions: bool,
    whole_dead_letters: bool = True,
) -> list[ProducerRecord]:
    """One outcome for each message, and a dead letter for each rejection.

    An outcome has the request's key, and its partition where both topics have as many, so the
    order of an entity's outcomes is that of its requests.
    """
    records = [
        _outcome(message, answer, topic=topic, same_partition=same_partitions)
        for message, answer in zip(messages, answers, strict=True)
    ]
    records += (
        dead_letter(
            message,
            consumer=CONSUMER,
            code=answer.rejection.code,
            reason=answer.rejection.reason,
            at_us=answer.outcome.scored_at_us,
            whole=whole_dead_letters,
        )
        for message, answer in zip(messages, answers, strict=True)
        if answer.rejection is not None
    )
    return records


def _outcome(
    message: Message, answer: Answer, *, topic: str, same_partition: bool
) -> ProducerRecord:
    headers: list[tuple[str, bytes | None]] = [_SCHEMA_HEADER]
    headers += (h for h in message.headers() or () if h[0] == TRACE_HEADER)
    return ProducerRecord(
        topic=topic,
        key=message.key(),
        value=_encode(answer.outcome),
        headers=headers,
        partition=message.partition() if same_partition else None,
    )

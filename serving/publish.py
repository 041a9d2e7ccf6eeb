"""From scored requests to the records that are sent: outcomes and dead letters."""

from collections.abc import Sequence

import msgspec

from features.contracts.dead_letters import dead_letter, dead_letter_topic
from features.contracts.predictions import SCHEMA, Outcome
from infra.kafka.message import Message
from infra.kafka.transactions import ProducerRecord
from serving.score import ScoredRequest

CONSUMER = "serving"
DEAD_LETTERS = dead_letter_topic(CONSUMER)
TRACE_HEADER = "traceparent"
_SCHEMA_HEADER = ("schema", SCHEMA.encode())
_encode = msgspec.json.Encoder().encode


def records_for(
    messages: Sequence[Message],
    scored: Sequence[ScoredRequest],
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
        _outcome(message, request.outcome, topic=topic, same_partition=same_partitions)
        for message, request in zip(messages, scored, strict=True)
    ]
    records += (
        dead_letter(
            message,
            consumer=CONSUMER,
            code=request.rejection.code,
            reason=request.rejection.reason,
            at_us=request.outcome.scored_at_us,
            whole=whole_dead_letters,
        )
        for message, request in zip(messages, scored, strict=True)
        if request.rejection is not None
    )
    return records


def _outcome(
    message: Message, outcome: Outcome, *, topic: str, same_partition: bool
) -> ProducerRecord:
    headers: list[tuple[str, bytes | None]] = [_SCHEMA_HEADER]
    headers += (h for h in message.headers() or () if h[0] == TRACE_HEADER)
    return ProducerRecord(
        topic=topic,
        key=message.key(),
        value=_encode(outcome),
        headers=headers,
        partition=message.partition() if same_partition else None,
    )

"""Publishes outcomes and dead letters, in one transaction with the positions of their requests."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import structlog

from features.contracts.dead_letters import LARGEST, SMALL, dead_letter, dead_letter_topic
from features.contracts.predictions import SCHEMA, Outcome
from infra.kafka.consumer import GroupConsumer
from infra.kafka.errors import ProducerFailed, TooLarge, TransactionAborted
from infra.kafka.message import Message, readable_headers
from infra.kafka.transactions import ProducerRecord, TransactionalProducer
from serving import metrics
from serving.score import ScoredRequest

log = structlog.get_logger()

CONSUMER = "serving"
DEAD_LETTERS = dead_letter_topic(CONSUMER)
TRACE_HEADER = "traceparent"
LONGEST_KEY = 64 * 1024  # of an outcome's key and trace header; longer ones are left out
_SCHEMA_HEADER = ("schema", SCHEMA.encode())
_encode = msgspec.json.Encoder().encode

ABORTS_IN_A_ROW = 10  # then the trouble does not pass, and a new process may do better
FIRST_ABORT_PAUSE_S = 0.1
LONGEST_ABORT_PAUSE_S = 1.6


@dataclass(frozen=True, kw_only=True)
class Topics:
    """Where requests come from and outcomes go."""

    requests: str
    predictions: str
    same_partitions: bool  # both have as many
    partitions: int | None = None  # how many `predictions` has


class OutcomePublisher:
    """Commits the outcomes of a batch together with the positions of its requests."""

    def __init__(
        self, producer: TransactionalProducer, topics: Topics, *, stop: threading.Event
    ) -> None:
        self._producer, self._topics, self._stop = producer, topics, stop
        self._aborts = 0
        self._too_large = False  # the last batch had a dead letter that its topic does not take
        self._same_partitions = topics.same_partitions

    def publish(
        self, consumer: GroupConsumer, messages: Sequence[Message], scored: Sequence[ScoredRequest]
    ) -> None:
        """Commit the batch that the consumer has taken; after an abort the consumer reads it again.

        Raises:
            ProducerFailed: too many aborts in a row.
            KafkaFailed: see `TransactionalProducer.send_all`.
        """
        taken = consumer.taken
        self._notice_growth(messages)
        records = records_for(
            messages,
            scored,
            topic=self._topics.predictions,
            same_partitions=self._same_partitions,
            limit=SMALL if self._too_large else LARGEST,
        )
        try:
            with metrics.STAGE_SECONDS.labels(stage="commit").time():
                self._producer.send_all(records, offsets=taken, consumer=consumer)
        except TransactionAborted as error:
            consumer.rewind()
            self._after_abort(error)
        else:
            self._aborts = 0
            self._too_large = False
            consumer.advance(taken)
            _count(scored)

    def _notice_growth(self, messages: Sequence[Message]) -> None:
        """Without the partition of a request the key decides, as where the topics differ."""
        if self._same_partitions and not fits(messages, self._topics.partitions):
            self._same_partitions = False
            log.warning(
                "request_topic_has_grown",
                topic=self._topics.requests,
                why=f"it has more than the {self._topics.partitions} partitions of"
                f" {self._topics.predictions} now: outcomes are placed by their key",
                hint=f"give {self._topics.predictions} as many partitions, then restart serving",
            )

    def _after_abort(self, error: TransactionAborted) -> None:
        """Pause before the batch comes again: longer after each abort in a row."""
        self._aborts += 1
        self._too_large = isinstance(error, TooLarge)
        metrics.TRANSACTIONS.labels(result="aborted").inc()
        log.warning("transaction_aborted", why=str(error), in_a_row=self._aborts)
        if self._aborts >= ABORTS_IN_A_ROW:
            raise ProducerFailed(f"{self._aborts} transactions in a row were aborted: {error}")
        pause_s = FIRST_ABORT_PAUSE_S * 2.0 ** (self._aborts - 1)
        self._stop.wait(min(pause_s, LONGEST_ABORT_PAUSE_S))


def fits(messages: Sequence[Message], partitions: int | None) -> bool:
    """Whether a topic with so many partitions has that of every message."""
    return partitions is None or all(m.partition() < partitions for m in messages)


def records_for(
    messages: Sequence[Message],
    scored: Sequence[ScoredRequest],
    *,
    topic: str,
    same_partitions: bool,
    limit: int = LARGEST,
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
            limit=limit,
        )
        for message, request in zip(messages, scored, strict=True)
        if request.rejection is not None
    )
    return records


def _outcome(
    message: Message, outcome: Outcome, *, topic: str, same_partition: bool
) -> ProducerRecord:
    headers: list[tuple[str, bytes | None]] = [_SCHEMA_HEADER]
    headers += (h for h in readable_headers(message) if h[0] == TRACE_HEADER and _is_short(h[1]))
    return ProducerRecord(
        topic=topic,
        key=message.key() if _is_short(message.key()) else None,
        value=_encode(outcome),
        headers=headers,
        partition=message.partition() if same_partition else None,
    )


def _is_short(content: bytes | None) -> bool:
    """Whether it cannot make an outcome too large for its topic."""
    return content is None or len(content) <= LONGEST_KEY


def _count(scored: Sequence[ScoredRequest]) -> None:
    metrics.TRANSACTIONS.labels(result="committed").inc()
    metrics.BATCH_SIZE.observe(len(scored))
    outcomes = [request.outcome for request in scored]
    for outcome in outcomes:
        metrics.OUTCOMES.labels(outcome=outcome.reason or "predicted").inc()
    metrics.INEXACT.inc(sum(o.features_exact is False for o in outcomes))
    metrics.NOT_FRESH.inc(sum(o.features_fresh is False for o in outcomes))
    metrics.MISSING.inc(sum(o.features_missing or 0 for o in outcomes))

"""The serving loop: one thread, one consumer, one producer, one transaction a batch.

No transaction is open while the consumer polls, so nothing is left to tidy when the group takes
partitions away.
"""

import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog

from features.contracts.codec import known_at_us
from features.engine.value_format import CorruptValue
from features.errors import StoreUnavailable
from infra.clock import now_us
from infra.errors import EventideError
from infra.kafka.consumer import GroupConsumer, waiting_for_brokers
from infra.kafka.errors import Fenced, KafkaFailed, ProducerFailed, TooLarge, TransactionAborted
from infra.kafka.message import Message
from infra.kafka.transactions import TransactionalProducer
from infra.process.watchdog import Watchdog
from serving import metrics
from serving.errors import ModelFails
from serving.freshness import Freshness
from serving.model import ServedModel
from serving.publish import records_for
from serving.score import Answer, Scorer

log = structlog.get_logger()

Opened = TypeVar("Opened")

IDLE_S = 0.2
RETRY_S = 1.0
ABORTS_IN_A_ROW = 10  # then it is no passing trouble, and a new process may do better


class CurrentModel(Protocol):
    """Where the loop reads the model, once a batch."""

    model: ServedModel | None


@dataclass(frozen=True, kw_only=True)
class Topics:
    """Where requests come from and outcomes go."""

    requests: str
    predictions: str
    same_partitions: bool  # both have as many


@dataclass(frozen=True, kw_only=True)
class Answering:
    """What answers a batch: features that are waited for, and scores of them."""

    freshness: Freshness
    scorer: Scorer


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the loop works with; the openers wait for servers that may still be starting."""

    champion: CurrentModel
    producer: TransactionalProducer
    open_topics: Callable[[], Topics]
    open_answering: Callable[[], Answering]
    join: Callable[[Topics], GroupConsumer]
    check: Callable[[], None]  # raises what another thread could not


class ServingLoop:
    """Answers requests until it is told to stop."""

    def __init__(
        self, parts: Parts, *, max_batch: int, stop: threading.Event, watchdog: Watchdog
    ) -> None:
        self._parts, self._max_batch = parts, max_batch
        self._stop, self._watchdog = stop, watchdog
        self._consumer: GroupConsumer | None = None
        self._failing: ModelFails | None = None
        self._failed_model: ServedModel | None = None
        self._aborts = 0
        self._too_large = False  # the last batch had a dead letter that its topic does not take
        self._why_not = "starting"

    def ready(self) -> tuple[bool, str]:
        """Whether requests are being answered; if not, why."""
        why = self._why_not or waiting_for_brokers(self._consumer)
        return not why, why or "answering requests"

    def run(self) -> None:
        """Until `stop` is set; the batch in hand is finished and committed first.

        Raises:
            KafkaFailed: end the process; a new one goes on where the last transaction ended.
        """
        topics = self._open(self._parts.open_topics)
        answering = self._open(self._parts.open_answering)
        if topics is None or answering is None:
            return
        with closing(answering.freshness):
            self._open(self._a_model)
            if not self._stop.is_set():
                self._answer_all(topics, answering)

    def _answer_all(self, topics: Topics, answering: Answering) -> None:
        # First of all: it ends what a predecessor left open, which holds up every reader.
        self._open(self._parts.producer.open)
        consumer = self._consumer = self._parts.join(topics)
        try:
            while not self._stop.is_set():
                self._watchdog.heartbeat()
                self._parts.check()
                self._turn(consumer, answering, topics)
        finally:
            self._why_not = "stopping"
            metrics.READY.set(0)
            consumer.close()

    def _turn(self, consumer: GroupConsumer, answering: Answering, topics: Topics) -> None:
        model = self._model_in_service(consumer)
        if model is None:
            consumer.poll(1, IDLE_S)  # paused: gives nothing, but keeps us in the group
            return
        messages = consumer.poll(self._max_batch, IDLE_S)
        metrics.PARTITIONS.set(len(consumer.owned))
        metrics.STALE.set(consumer.stale_records)
        metrics.READY.set(self.ready()[0])
        if not consumer.taken:
            return
        try:
            answers = self._answers(messages, model, answering) if messages else []
        except ModelFails as error:
            self._stop_taking(consumer, model, error)
        except StoreUnavailable as error:
            consumer.rewind()
            self._wait(f"no features: {error}")
        except CorruptValue as error:
            consumer.rewind()
            self._wait_for_mending(error)
        else:
            self._why_not = ""
            self._commit(consumer, messages, answers, topics)

    def _answers(
        self, messages: list[Message], model: ServedModel, answering: Answering
    ) -> list[Answer]:
        with metrics.STAGE_SECONDS.labels(stage="wait").time():
            # No transaction is open, and the client keeps us in the group from a thread of its own.
            complete_to_us = answering.freshness.wait_for(
                max(map(known_at_us, messages)), go_on=self._goes_on
            )
        with metrics.STAGE_SECONDS.labels(stage="score").time():
            return answering.scorer.answer(
                messages, model=model, scored_at_us=now_us(), complete_to_us=complete_to_us
            )

    def _goes_on(self) -> bool:
        self._watchdog.heartbeat()
        return not self._stop.is_set()

    def _commit(
        self,
        consumer: GroupConsumer,
        messages: list[Message],
        answers: list[Answer],
        topics: Topics,
    ) -> None:
        taken = consumer.taken
        records = records_for(
            messages,
            answers,
            topic=topics.predictions,
            same_partitions=topics.same_partitions,
            whole_dead_letters=not self._too_large,
        )
        try:
            with metrics.STAGE_SECONDS.labels(stage="commit").time():
                self._parts.producer.send_all(records, offsets=taken, consumer=consumer)
        except TransactionAborted as error:
            self._after_abort(consumer, error)
        else:
            self._aborts = 0
            self._too_large = False
            consumer.advance(taken)
            _count(answers)

    def _after_abort(self, consumer: GroupConsumer, error: TransactionAborted) -> None:
        """The batch comes again: the consumer goes back to what was last committed."""
        consumer.rewind()
        self._aborts += 1
        self._too_large = isinstance(error, TooLarge)
        metrics.TRANSACTIONS.labels(result="aborted").inc()
        log.warning("transaction_aborted", why=str(error), in_a_row=self._aborts)
        if self._aborts >= ABORTS_IN_A_ROW:
            raise ProducerFailed(f"{self._aborts} transactions in a row were aborted: {error}")
        self._stop.wait(0.05 * 2 ** min(self._aborts, 5))

    def _model_in_service(self, consumer: GroupConsumer) -> ServedModel | None:
        """The model for this batch; None while the one that we have fails."""
        model = self._parts.champion.model
        if self._failing is None:
            return model
        if model is self._failed_model:
            return None
        self._failing = self._failed_model = None
        self._why_not = ""
        consumer.resume()
        return model

    def _stop_taking(self, consumer: GroupConsumer, model: ServedModel, error: ModelFails) -> None:
        """Not one dead letter for a stream of good requests: wait for another model."""
        log.error("model_fails", why=str(error), hint=error.hint)
        self._failing, self._failed_model = error, model
        self._why_not = str(error)
        metrics.READY.set(0)
        consumer.pause()

    def _open(self, opener: Callable[[], Opened]) -> Opened | None:
        """What it opens, as soon as that can be opened; None when we are to stop."""
        while not self._stop.is_set():
            self._watchdog.heartbeat()
            self._parts.check()
            try:
                opened = opener()
            except Fenced:
                raise
            except (StoreUnavailable, KafkaFailed, _NoModelYet) as error:
                self._wait(str(error))
            else:
                self._why_not = ""
                return opened
        return None

    def _wait_for_mending(self, error: CorruptValue) -> None:
        """Nothing is answered from damaged values; ingest finds and mends them."""
        metrics.DAMAGED.inc()
        why = f"damaged features of view {error.view}"
        if why != self._why_not:
            log.error("features_damaged", view=error.view, why=str(error), hint=error.hint)
        self._wait(why)

    def _wait(self, why: str) -> None:
        if why != self._why_not:
            log.info("waiting", why=why)
        self._why_not = why
        self._stop.wait(RETRY_S)

    def _a_model(self) -> ServedModel:
        if self._parts.champion.model is None:
            raise _NoModelYet("no model yet: no champion is registered")
        return self._parts.champion.model


class _NoModelYet(EventideError):
    """There is nothing to serve with."""


def _count(answers: list[Answer]) -> None:
    metrics.TRANSACTIONS.labels(result="committed").inc()
    metrics.BATCH_SIZE.observe(len(answers))
    for answer in answers:
        metrics.ANSWERS.labels(outcome=answer.outcome.reason or "predicted").inc()
    metrics.INEXACT.inc(sum(a.outcome.features_exact is False for a in answers))
    metrics.NOT_FRESH.inc(sum(a.outcome.features_fresh is False for a in answers))
    metrics.MISSING.inc(sum(a.outcome.features_missing or 0 for a in answers))

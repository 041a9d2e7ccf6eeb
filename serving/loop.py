"""The serving loop: one thread, one consumer, one producer, one transaction a batch.

No transaction is open while the consumer polls, so there is nothing to undo when the group takes
partitions away.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog

from features.contracts.codec import known_at_us, mostly_future
from features.engine.formulas import FAILURES
from features.engine.value_format import CorruptValue
from features.errors import StoreUnavailable
from infra.clock import now_us
from infra.errors import EventideError
from infra.kafka.consumer import GroupConsumer, waiting_for_brokers
from infra.kafka.errors import Fenced, KafkaFailed
from infra.kafka.message import Message
from infra.kafka.transactions import TransactionalProducer
from infra.process.readiness import Readiness
from infra.process.watchdog import Watchdog
from serving import metrics
from serving.errors import ModelFails
from serving.freshness import Freshness
from serving.model import ServedModel
from serving.publish import OutcomePublisher, Topics
from serving.score import ScoredRequest, Scorer

log = structlog.get_logger()

Opened = TypeVar("Opened")

IDLE_S = 0.2
RETRY_S = 1.0


class CurrentModel(Protocol):
    """Where the loop reads the model, once a batch. `trouble`: why it is not newer, or there."""

    model: ServedModel | None
    trouble: str


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How a batch is scored: wait until its features are fresh, then score it."""

    freshness: Freshness
    scorer: Scorer


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the loop works with; the openers raise while servers are still starting."""

    champion: CurrentModel
    producer: TransactionalProducer
    open_topics: Callable[[], Topics]
    open_scoring: Callable[[], Scoring]
    join: Callable[[Topics], GroupConsumer]
    check: Callable[[], None]  # raises the errors of other threads
    clock_us: Callable[[], int] = now_us


class ServingLoop:
    """Turns requests into outcomes until it is stopped."""

    def __init__(
        self, parts: Parts, *, max_batch: int, stop: threading.Event, watchdog: Watchdog
    ) -> None:
        self._parts, self._max_batch = parts, max_batch
        self._stop, self._watchdog = stop, watchdog
        self._readiness = Readiness()
        self._consumer: GroupConsumer | None = None
        self._failed_model: ServedModel | None = None  # no requests are taken while it serves

    def ready(self) -> tuple[bool, str]:
        """Whether requests are being served; if not, why."""
        reason = self._readiness.reason or waiting_for_brokers(self._consumer)
        trouble = self._parts.champion.trouble
        return not reason, reason or f"serving requests{f'; {trouble}' if trouble else ''}"

    def run(self) -> None:
        """Run until `stop` is set; finish and commit the current batch first.

        Raises:
            KafkaFailed: end the process; a new one continues after the last committed transaction.
        """
        topics = self._open(self._parts.open_topics)
        scoring = self._open(self._parts.open_scoring)
        if topics is None or scoring is None:
            return
        with closing(scoring.freshness):
            self._open(self._require_model)
            if not self._stop.is_set():
                self._serve(topics, scoring)

    # -- starting

    def _open(self, opener: Callable[[], Opened]) -> Opened | None:
        """Call `opener` until it succeeds; None when the loop is stopped before."""
        while self._keep_going():
            self._parts.check()
            try:
                opened = opener()
            except Fenced:
                raise
            except (StoreUnavailable, KafkaFailed, _ModelMissing) as error:
                self._pause(str(error))
            else:
                self._readiness.clear()
                return opened
        return None

    def _require_model(self) -> ServedModel:
        if self._parts.champion.model is None:
            raise _ModelMissing(f"no model yet: {self._parts.champion.trouble}")
        return self._parts.champion.model

    # -- serving

    def _serve(self, topics: Topics, scoring: Scoring) -> None:
        # First: it aborts an open transaction of a predecessor, which blocks every reader.
        self._open(self._parts.producer.open)
        consumer = self._consumer = self._parts.join(topics)
        publisher = OutcomePublisher(self._parts.producer, topics, stop=self._stop)
        try:
            while self._keep_going():
                self._parts.check()
                self._serve_batch(consumer, scoring, publisher)
        finally:
            self._readiness.block("stopping")
            metrics.READY.set(0)
            consumer.close()

    def _serve_batch(
        self, consumer: GroupConsumer, scoring: Scoring, publisher: OutcomePublisher
    ) -> None:
        model = self._usable_model(consumer)
        if model is None:
            consumer.poll(1, IDLE_S)  # paused: gives nothing, but keeps us in the group
            return
        messages = consumer.poll(self._max_batch, IDLE_S)
        self._show(consumer)
        if not consumer.taken:
            return
        scored = self._score_or_rewind(consumer, messages, model, scoring)
        if scored is not None and _is_refused_by_clock(scored):
            consumer.rewind()
            self._pause(
                f"most of {len(scored)} requests were emitted in the future: compare clocks"
            )
        elif scored is not None:
            self._readiness.clear()
            publisher.publish(consumer, messages, scored)

    def _score_or_rewind(
        self,
        consumer: GroupConsumer,
        messages: list[Message],
        model: ServedModel,
        scoring: Scoring,
    ) -> list[ScoredRequest] | None:
        """None when the batch cannot be scored now; the consumer then reads it again."""
        try:
            return self._score(messages, model, scoring) if messages else []
        except ModelFails as error:
            self._stop_taking(consumer, model, error)
        except StoreUnavailable as error:
            consumer.rewind()
            self._pause(f"no features: {error}")
        except CorruptValue as error:
            consumer.rewind()
            self._pause_for_repair(error)
        return None

    def _score(
        self, messages: list[Message], model: ServedModel, scoring: Scoring
    ) -> list[ScoredRequest]:
        with metrics.STAGE_SECONDS.labels(stage="wait").time():
            # No transaction is open, and the client keeps us in the group from a thread of its own.
            complete_to_us = scoring.freshness.wait_for(
                max(map(known_at_us, messages)), keep_waiting=self._keep_going
            )
        with metrics.STAGE_SECONDS.labels(stage="score").time():
            scored = scoring.scorer.score(
                messages,
                model=model,
                scored_at_us=self._parts.clock_us(),
                complete_to_us=complete_to_us,
            )
        for (formula, reason), rows in FAILURES.take().items():
            metrics.FORMULA_FAILURES.labels(formula=formula, reason=reason).inc(rows)
            log.warning("formula_failed", formula=formula, reason=reason, rows=rows)
        return scored

    # -- the model

    def _usable_model(self, consumer: GroupConsumer) -> ServedModel | None:
        """The model for this batch; None while the current one is known to fail."""
        model = self._parts.champion.model
        if self._failed_model is None:
            return model
        if model is self._failed_model:
            return None
        self._failed_model = None
        self._readiness.clear()
        consumer.resume()
        return model

    def _stop_taking(self, consumer: GroupConsumer, model: ServedModel, error: ModelFails) -> None:
        """Wait for another model, instead of one dead letter for each of many good requests."""
        log.error("model_fails", why=str(error), hint=error.hint)
        self._failed_model = model
        self._readiness.block(str(error))
        metrics.READY.set(0)
        consumer.pause()

    # -- waiting

    def _keep_going(self) -> bool:
        """Whether the loop is to go on; also shows the watchdog that it is alive."""
        self._watchdog.heartbeat()
        return not self._stop.is_set()

    def _pause(self, why: str) -> None:
        if self._readiness.block(why):
            log.info("waiting", why=why)
        self._stop.wait(RETRY_S)

    def _pause_for_repair(self, error: CorruptValue) -> None:
        """No prediction is made from damaged values; ingest finds and repairs them."""
        metrics.DAMAGED.inc()
        why = f"damaged features of view {error.view}"
        if self._readiness.block(why):
            log.error("features_damaged", view=error.view, why=str(error), hint=error.hint)
            log.info("waiting", why=why)
        self._stop.wait(RETRY_S)

    def _show(self, consumer: GroupConsumer) -> None:
        metrics.PARTITIONS.set(len(consumer.owned))
        metrics.STALE_RECORDS.set(consumer.stale_records)
        metrics.READY.set(self.ready()[0])


def _is_refused_by_clock(scored: Sequence[ScoredRequest]) -> bool:
    reasons = [request.rejection.reason for request in scored if request.rejection is not None]
    return mostly_future(reasons, len(scored))


class _ModelMissing(EventideError):
    """There is no model to serve with."""

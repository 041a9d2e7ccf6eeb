"""From a batch of requests to one answer for each. Pure: no Kafka, no clock, no store."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np

from features.contracts.codec import known_at_us
from features.contracts.predictions import Outcome
from features.definitions import FeatureService
from features.errors import MalformedEvent
from infra.errors import EventideError
from infra.kafka.message import Message
from serving.errors import ModelFails
from serving.model import ServedModel
from serving.ports import Features

Decode = Callable[[Message], msgspec.Struct]
"""The record in a message; raises MalformedEvent."""

UNSCORABLE = "unscorable"  # the request is well-formed, and yet the model fails on it
WHOLE_BATCH = 20  # so many requests that all fail are not to blame


class Rejection(NamedTuple):
    """Why a request gets no forecast. `reason` never quotes the payload."""

    code: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What becomes of one request: an outcome, and a dead letter when it is a rejection."""

    outcome: Outcome
    rejection: Rejection | None = None


class Scored(NamedTuple):
    """The model's word on one request."""

    score: float
    exact: bool
    missing: int


class Scorer:
    """Answers batches of requests of one feature service.

    Remembers one thing: whether the model has ever scored a real request. Until it has, a batch
    in which every request fails is taken for the model's fault.
    """

    def __init__(self, service: FeatureService, *, decode: Decode, features: Features) -> None:
        self._service, self._decode, self._features = service, decode, features
        self._proven: ServedModel | None = None

    def answer(
        self,
        messages: Sequence[Message],
        *,
        model: ServedModel,
        scored_at_us: int,
        complete_to_us: int,
    ) -> list[Answer]:
        """One answer for each message, in their order. A bad request does not touch the others.

        What was emitted before `complete_to_us` is in the features; a request that was emitted, or
        asks, after it gets an answer that is not fresh.

        Raises:
            ModelFails: no request can be scored, and that is not the requests' fault.
            StoreUnavailable: there are no features at the moment.
            CorruptValue: the features that are there are damaged.
        """
        read = [self._read(message) for message in messages]
        requests = [r for r in read if not isinstance(r, Rejection)]
        scored = iter(self._score(requests, model))
        return [
            _rejected(message, found, scored_at_us)
            if isinstance(found, Rejection)
            else self._answered(
                message,
                found,
                next(scored),
                model=model,
                scored_at_us=scored_at_us,
                complete_to_us=complete_to_us,
            )
            for message, found in zip(messages, read, strict=True)
        ]

    def _read(self, message: Message) -> msgspec.Struct | Rejection:
        try:
            return self._decode(message)
        except MalformedEvent as error:
            return Rejection(error.code, error.reason)

    def _score(
        self, requests: Sequence[msgspec.Struct], model: ServedModel
    ) -> list[Scored | Rejection]:
        def attempt(some: Sequence[msgspec.Struct]) -> list[Scored | Rejection]:
            return score(some, features=self._features, model=model)

        scored = divide_and_score(requests, attempt)
        works = any(isinstance(s, Scored) for s in scored)
        if scored and not works and (self._proven is not model or len(scored) >= WHOLE_BATCH):
            failure = scored[0]
            raise ModelFails(
                f"{model.version.name} {model.version.version} scores none of {len(scored)}"
                f" requests: {failure.reason if isinstance(failure, Rejection) else failure}"
            )
        if scored:
            self._proven = model if works else None
        return scored

    def _answered(
        self,
        message: Message,
        request: msgspec.Struct,
        scored: Scored | Rejection,
        *,
        model: ServedModel,
        scored_at_us: int,
        complete_to_us: int,
    ) -> Answer:
        decision_time_us: int = request.event_time_us  # type: ignore[attr-defined]
        known = {
            "source": source_of(message),
            "scored_at_us": scored_at_us,
            "event_id": request.event_id,  # type: ignore[attr-defined]  # every event has these two
            "entity_id": str(getattr(request, self._service.decision.entity_id)),
            "decision_time_us": decision_time_us,
            "model": model.version.name,
            "model_version": model.version.version,
            "run_id": model.version.run_id,
        }
        if isinstance(scored, Rejection):
            outcome = Outcome(outcome="rejected", reason=scored.code, **known)
            return Answer(outcome=outcome, rejection=scored)
        return Answer(
            outcome=Outcome(
                outcome="predicted",
                score=scored.score,
                features_exact=scored.exact,
                features_fresh=max(known_at_us(message), decision_time_us) <= complete_to_us,
                features_missing=scored.missing,
                **known,
            )
        )


def score(
    requests: Sequence[msgspec.Struct], *, features: Features, model: ServedModel
) -> list[Scored | Rejection]:
    """Features and score of each request, as of its own decision time. Raises whatever they raise.

    A score that is no probability is a rejection.
    """
    as_of_us = np.array([r.event_time_us for r in requests], dtype=np.int64)  # type: ignore[attr-defined]
    vectors = features.vectors(requests, as_of_us)
    scores = model.bundle.score(vectors.categories, vectors.numbers)
    missing = np.isnan(vectors.numbers).sum(axis=1)
    return [
        Scored(value, exact, gaps)
        if 0.0 <= value <= 1.0
        else Rejection(UNSCORABLE, f"the model's score is {value}")
        for value, exact, gaps in zip(
            scores.tolist(), vectors.exact.tolist(), missing.tolist(), strict=True
        )
    ]


def divide_and_score(
    requests: Sequence[msgspec.Struct],
    attempt: Callable[[Sequence[msgspec.Struct]], list[Scored | Rejection]],
) -> list[Scored | Rejection]:
    """`attempt` on all; when it raises, on each half, until what fails is alone.

    One bad request among n costs about 2 log2 n attempts.

    Raises:
        EventideError: what is known, such as StoreUnavailable, is not the fault of a request.
    """
    if not requests:
        return []
    try:
        return attempt(requests)
    except EventideError:
        raise
    except Exception as error:  # noqa: BLE001  # whatever a model raises on a strange request
        if len(requests) == 1:
            return [Rejection(UNSCORABLE, f"the model raised {type(error).__name__}")]
    half = len(requests) // 2
    return [
        *divide_and_score(requests[:half], attempt),
        *divide_and_score(requests[half:], attempt),
    ]


def source_of(message: Message) -> str:
    """The natural id of a request: topic-partition-offset."""
    return f"{message.topic()}-{message.partition()}-{message.offset()}"


def _rejected(message: Message, why: Rejection, scored_at_us: int) -> Answer:
    outcome = Outcome(
        outcome="rejected",
        source=source_of(message),
        scored_at_us=scored_at_us,
        reason=why.code,
    )
    return Answer(outcome=outcome, rejection=why)

"""From a batch of requests to one outcome for each. Pure: no Kafka, no clock, no store."""

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


class Prediction(NamedTuple):
    """The model's score of one request, and how good the features were."""

    score: float
    exact: bool
    missing: int


class Rejection(NamedTuple):
    """Why a request gets no prediction. `reason` never quotes the payload."""

    code: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ScoredRequest:
    """The outcome of one request, and the rejection that it reports, if it is one."""

    outcome: Outcome
    rejection: Rejection | None = None


class Scorer:
    """Scores batches of requests of one feature service. It has no state."""

    def __init__(self, service: FeatureService, *, decode: Decode, features: Features) -> None:
        self._service, self._decode, self._features = service, decode, features

    def score(
        self,
        messages: Sequence[Message],
        *,
        model: ServedModel,
        scored_at_us: int,
        complete_to_us: int,
    ) -> list[ScoredRequest]:
        """One outcome for each message, in their order. A bad request does not touch the others.

        The features hold what was emitted before `complete_to_us`. A request that was emitted after
        it, or whose decision time is after it, gets a prediction that is not fresh.

        Raises:
            ModelFails: no request can be scored, nor the rows that the model knows.
            StoreUnavailable: there are no features at the moment.
            CorruptValue: the stored features are damaged.
        """
        decoded = [self._read(message) for message in messages]
        requests = [r for r in decoded if not isinstance(r, Rejection)]
        results = iter(self._predict(requests, model))
        return [
            _rejected(message, request, scored_at_us)
            if isinstance(request, Rejection)
            else self._scored(
                message,
                request,
                next(results),
                model=model,
                scored_at_us=scored_at_us,
                complete_to_us=complete_to_us,
            )
            for message, request in zip(messages, decoded, strict=True)
        ]

    def _read(self, message: Message) -> msgspec.Struct | Rejection:
        try:
            return self._decode(message)
        except MalformedEvent as error:
            return Rejection(error.code, error.reason)

    def _predict(
        self, requests: Sequence[msgspec.Struct], model: ServedModel
    ) -> list[Prediction | Rejection]:
        results = isolate_failures(
            requests, lambda part: predict(part, features=self._features, model=model)
        )
        if results and not any(isinstance(result, Prediction) for result in results):
            check_model(model)
        return results

    def _scored(
        self,
        message: Message,
        request: msgspec.Struct,
        result: Prediction | Rejection,
        *,
        model: ServedModel,
        scored_at_us: int,
        complete_to_us: int,
    ) -> ScoredRequest:
        """The outcome of a request that could be read."""
        decision_time_us: int = request.event_time_us  # type: ignore[attr-defined]
        origin = {
            "source": source_of(message),
            "scored_at_us": scored_at_us,
            "event_id": request.event_id,  # type: ignore[attr-defined]  # every event has these two
            "entity_id": str(getattr(request, self._service.decision.entity_id)),
            "decision_time_us": decision_time_us,
            "model": model.version.name,
            "model_version": model.version.version,
            "run_id": model.version.run_id,
        }
        if isinstance(result, Rejection):
            outcome = Outcome(outcome="rejected", reason=result.code, **origin)
            return ScoredRequest(outcome=outcome, rejection=result)
        return ScoredRequest(
            outcome=Outcome(
                outcome="predicted",
                score=result.score,
                features_exact=result.exact,
                features_fresh=max(known_at_us(message), decision_time_us) <= complete_to_us,
                features_missing=result.missing,
                **origin,
            )
        )


def check_model(model: ServedModel) -> None:
    """Score the rows that the model knows from its training, after it has scored no request.

    If it scores them, the requests are to blame, however many they are.

    Raises:
        ModelFails: it does not.
    """
    name = f"{model.version.name} {model.version.version}"
    try:
        scores = model.bundle.score(*model.bundle.known_rows())
    except Exception as error:
        raise ModelFails(f"{name} scores no request, nor its own rows: {error!r}") from error
    if not np.all((scores >= 0) & (scores <= 1)):
        worst = scores[~((scores >= 0) & (scores <= 1))][0]
        raise ModelFails(f"{name} scores no request; its score of a row of its own is {worst}")


def predict(
    requests: Sequence[msgspec.Struct], *, features: Features, model: ServedModel
) -> list[Prediction | Rejection]:
    """Features and score of each request, as of its own decision time. Raises whatever they raise.

    A score outside [0, 1] is a rejection.
    """
    as_of_us = np.array([r.event_time_us for r in requests], dtype=np.int64)  # type: ignore[attr-defined]
    vectors = features.vectors(requests, as_of_us)
    scores = model.score(vectors)
    missing = np.isnan(vectors.numbers).sum(axis=1)
    return [
        Prediction(score, exact, gaps)
        if 0.0 <= score <= 1.0
        else Rejection(UNSCORABLE, f"the model's score is {score}")
        for score, exact, gaps in zip(
            scores.tolist(), vectors.exact.tolist(), missing.tolist(), strict=True
        )
    ]


def isolate_failures(
    requests: Sequence[msgspec.Struct],
    attempt: Callable[[Sequence[msgspec.Struct]], list[Prediction | Rejection]],
) -> list[Prediction | Rejection]:
    """`attempt` on all requests; when it raises, on each half, until the failing one is alone.

    One bad request among n costs about 2 log2 n attempts.

    Raises:
        EventideError: an error of ours, such as StoreUnavailable, is not the fault of a request.
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
        *isolate_failures(requests[:half], attempt),
        *isolate_failures(requests[half:], attempt),
    ]


def source_of(message: Message) -> str:
    """The natural id of a request: topic-partition-offset."""
    return f"{message.topic()}-{message.partition()}-{message.offset()}"


def _rejected(message: Message, rejection: Rejection, scored_at_us: int) -> ScoredRequest:
    """The outcome of a request that could not be read."""
    outcome = Outcome(
        outcome="rejected",
        source=source_of(message),
        scored_at_us=scored_at_us,
        reason=rejection.code,
    )
    return ScoredRequest(outcome=outcome, rejection=rejection)

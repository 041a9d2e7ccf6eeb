"""Scoring a batch: the outcome of each request."""

import random
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from features.catalog.flights.services import FLIGHT_DELAY
from features.contracts.codec import encode
from features.definitions import Int64Array
from features.errors import StoreUnavailable
from features.retrieval.online import FeatureReader, FeatureVectors
from features.stores.memory import MemoryOnlineStore
from infra.clock import MINUTE
from ml.bundle.scoring import Bundle
from serving.bootstrap import request_decoder
from serving.errors import ModelFails
from serving.model import ModelVersion, ServedModel
from serving.ports import Features
from serving.score import UNSCORABLE, ScoredRequest, Scorer
from tests.support.data.bundles import a_bundle, a_model_file
from tests.support.data.messages import NOON_US, AMessage, a_message, a_request

LATER_US = NOON_US + 1


@pytest.fixture
def model(tmp_path: Path) -> ServedModel:
    return a_model(tmp_path / "bundle")


def a_model(folder: Path, *, intercept: float = -1.0) -> ServedModel:
    sha256 = a_bundle(folder, FLIGHT_DELAY, intercept=intercept)
    return ServedModel.of(
        ModelVersion(name="flight_delay", version="7", run_id="run", bundle_sha256=sha256),
        Bundle.load(folder, sha256),
        FLIGHT_DELAY,
    )


def a_scorer(features: Features | None = None) -> Scorer:
    return Scorer(
        FLIGHT_DELAY,
        decode=request_decoder(FLIGHT_DELAY, max_future_us=10 * MINUTE),
        features=features or FeatureReader(FLIGHT_DELAY, MemoryOnlineStore()),
    )


def score(
    messages: Sequence[AMessage],
    model: ServedModel,
    scorer: Scorer | None = None,
    *,
    complete_to_us: int = NOON_US,
) -> list[ScoredRequest]:
    return (scorer or a_scorer()).score(
        messages, model=model, scored_at_us=LATER_US, complete_to_us=complete_to_us
    )


class Fragile:
    """Features that raise on flights whose id starts with `bad`."""

    def __init__(self) -> None:
        self.inner = FeatureReader(FLIGHT_DELAY, MemoryOnlineStore())
        self.calls = 0

    def vectors(self, requests: Sequence[msgspec.Struct], as_of_us: Int64Array) -> FeatureVectors:
        self.calls += 1
        if any(r.flight_id.startswith("bad") for r in requests):  # type: ignore[attr-defined]
            raise ZeroDivisionError
        return self.inner.vectors(requests, as_of_us)


class Inexact(Fragile):
    """Features of requests that are older than the store's hold."""

    def vectors(self, requests: Sequence[msgspec.Struct], as_of_us: Int64Array) -> FeatureVectors:
        features = super().vectors(requests, as_of_us)
        return FeatureVectors(
            categories=features.categories,
            numbers=features.numbers,
            exact=np.zeros(len(requests), dtype=bool),
        )


def test_an_outcome_has_the_score_and_its_origin(model: ServedModel) -> None:
    (scored,) = score([a_message(its_offset=42)], model)

    outcome = scored.outcome
    assert scored.rejection is None
    assert outcome.outcome == "predicted"
    assert outcome.source == "flight.forecast_requested-1-42"
    assert outcome.event_id == "r1"
    assert outcome.entity_id == "flight-1"
    assert outcome.decision_time_us == NOON_US
    assert outcome.scored_at_us == LATER_US
    assert (outcome.model, outcome.model_version, outcome.run_id) == ("flight_delay", "7", "run")
    assert outcome.score is not None
    assert 0 < outcome.score < 1


def test_missing_features_are_counted(model: ServedModel) -> None:
    (scored,) = score([a_message()], model)

    nothing_known = FeatureReader(FLIGHT_DELAY, MemoryOnlineStore()).vectors(
        [a_request()], np.array([NOON_US])
    )
    assert scored.outcome.features_missing == np.isnan(nothing_known.numbers).sum() > 0


def test_a_prediction_from_inexact_features_is_marked(model: ServedModel) -> None:
    (scored,) = score([a_message()], model, a_scorer(Inexact()))

    assert scored.outcome.outcome == "predicted"
    assert scored.outcome.features_exact is False


def test_a_prediction_is_fresh_when_all_events_before_its_request_are_applied(
    model: ServedModel,
) -> None:
    messages = [
        a_message(),
        a_message(its_timestamp_ms=NOON_US // 1_000 + 1),  # emitted later
        a_message(a_request(event_time_us=NOON_US + 1)),  # as of a later time
    ]

    def fresh(complete_to_us: int) -> list[bool | None]:
        return [
            a.outcome.features_fresh for a in score(messages, model, complete_to_us=complete_to_us)
        ]

    assert fresh(NOON_US - 1) == [False, False, False]
    assert fresh(NOON_US) == [True, False, False]
    assert fresh(NOON_US + 999) == [True, False, True]
    assert fresh(NOON_US + 1_000) == [True, True, True]


def test_a_score_does_not_depend_on_the_batch(model: ServedModel) -> None:
    requests = [a_request(f"r{n}", distance_miles=100 * n, weekday=1 + n % 7) for n in range(30)]
    together = score([a_message(r) for r in requests], model)
    alone = [score([a_message(r)], model)[0] for r in requests]

    scores = [[scored.outcome.score for scored in outcomes] for outcomes in (together, alone)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-12)


def spoil(**changes: object) -> bytes:
    fields = msgspec.to_builtins(a_request()) | changes
    return msgspec.json.encode({k: v for k, v in fields.items() if v is not ...})


POISON: dict[str, tuple[AMessage, str]] = {
    "no value": (AMessage(its_value=None), "empty"),
    "empty value": (AMessage(its_value=b""), "empty"),
    "not JSON": (AMessage(its_value=b"\xff\x00 not json"), "not_json"),
    "half a record": (AMessage(its_value=encode(a_request())[:30]), "not_json"),
    "a list": (AMessage(its_value=b"[1, 2]"), "wrong_type"),
    "text for a number": (AMessage(its_value=spoil(distance_miles="far")), "wrong_type"),
    "a missing field": (AMessage(its_value=spoil(carrier=...)), "missing_field"),
    "NaN": (AMessage(its_value=spoil(weekday=0).replace(b":0", b":NaN")), "not_json"),
    "beyond 64 bits": (AMessage(its_value=spoil(flight=2**70)), "out_of_range"),
    "out of bounds": (AMessage(its_value=spoil(weekday=9)), "out_of_range"),
    "unknown schema": (
        a_message(its_headers=(("schema", b"flight.forecast_requested/9"),)),
        "unknown_schema",
    ),
    "1 MB of noise": (AMessage(its_value=random.Random(0).randbytes(1_048_000)), "too_large"),
    "another key": (AMessage(its_value=encode(a_request()), its_key=b"flight-2"), "bad_key"),
    "from the future": (a_message(a_request(event_time_us=NOON_US + 10**10)), "time_travel"),
}


@pytest.mark.parametrize("name", POISON)
def test_a_malformed_request_is_rejected_and_its_neighbours_are_scored(
    name: str, model: ServedModel
) -> None:
    poison, code = POISON[name]
    previous, rejected, following = score([a_message(), poison, a_message(its_offset=2)], model)

    assert rejected.outcome.outcome == "rejected"
    assert rejected.outcome.reason == code
    assert rejected.outcome.event_id is None
    assert rejected.rejection is not None
    assert rejected.rejection.code == code
    assert (
        previous.outcome.score
        == following.outcome.score
        == score([a_message()], model)[0].outcome.score
    )


def test_a_batch_of_malformed_requests_is_rejected(model: ServedModel) -> None:
    scored = score([poison for poison, _ in POISON.values()] * 3, model)

    assert [a.outcome.reason for a in scored] == [code for _, code in POISON.values()] * 3


def test_only_the_request_on_which_the_model_fails_is_rejected(model: ServedModel) -> None:
    fragile = Fragile()
    requests = [a_request(f"r{n}", flight_id=f"good-{n}") for n in range(100)]
    requests[37] = a_request("r37", flight_id="bad-37")
    scored = score([a_message(r) for r in requests], model, a_scorer(fragile))

    rejected = [n for n, a in enumerate(scored) if a.outcome.outcome == "rejected"]
    assert rejected == [37]
    assert scored[37].outcome.reason == UNSCORABLE
    assert scored[37].outcome.event_id == "r37"
    assert [a.outcome.event_id for a in scored] == [f"r{n}" for n in range(100)]
    assert fragile.calls < 20


@pytest.mark.parametrize("n", [1, 2, 3, 100])
def test_requests_that_a_sound_model_cannot_score_are_rejected_however_many(
    n: int, model: ServedModel
) -> None:
    scorer = a_scorer(Fragile())
    bad = [a_message(a_request(flight_id=f"bad-{i}")) for i in range(n)]
    for _ in range(3):  # also one batch after the other, by a new process too
        assert [a.outcome.reason for a in score(bad, model, scorer)] == [UNSCORABLE] * n


def test_a_model_that_scores_neither_requests_nor_its_own_rows_fails_and_rejects_none(
    tmp_path: Path,
) -> None:
    sound = a_model(tmp_path / "bundle")
    bundle = Bundle(a_model_file(FLIGHT_DELAY), lambda encoded: np.full(len(encoded), np.nan))
    broken = ServedModel.of(sound.version, bundle, FLIGHT_DELAY)
    with pytest.raises(ModelFails, match="its score of a row of its own is nan"):
        score([a_message()], broken)


def test_the_rows_that_a_model_knows_are_scored_by_it(model: ServedModel) -> None:
    texts, numbers = model.bundle.known_rows()
    assert set(texts["carrier"]) > {"AA", None}
    assert np.isnan(numbers[0]).all()
    assert not np.isnan(numbers[1:]).any()
    scores = model.bundle.score(texts, numbers)
    assert ((scores > 0) & (scores < 1)).all()


class Unavailable(Fragile):
    def vectors(self, *_: object) -> FeatureVectors:
        self.calls += 1
        raise StoreUnavailable("the store is away")


def test_an_unavailable_store_rejects_no_request(model: ServedModel) -> None:
    features = Unavailable()
    with pytest.raises(StoreUnavailable):
        score([a_message() for _ in range(10)], model, a_scorer(features))
    assert features.calls == 1

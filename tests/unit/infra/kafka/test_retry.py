"""Calls that fail with a transient error are repeated, others are not."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from infra.kafka.retry import retry_transient

LOADING = KafkaException(KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS))
REFUSED = KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))


class Fails:
    """Raises the given errors, one per call, then returns 7; records the seconds left per call."""

    def __init__(self, *errors: KafkaException) -> None:
        self._errors = list(errors)
        self.seconds_left: list[float] = []

    def __call__(self, left_s: float) -> int:
        self.seconds_left.append(left_s)
        if self._errors:
            raise self._errors.pop(0)
        return 7


def test_a_transient_error_is_retried_and_each_call_has_less_time() -> None:
    call = Fails(LOADING, LOADING)

    assert retry_transient(call, limit_s=5.0) == 7
    assert 5.0 > call.seconds_left[0] > call.seconds_left[1] > call.seconds_left[2] > 4.0


def test_another_error_is_not_retried() -> None:
    call = Fails(REFUSED)
    with pytest.raises(KafkaException, match="AUTHORIZATION"):
        retry_transient(call)
    assert len(call.seconds_left) == 1


def test_at_the_limit_the_last_error_is_raised() -> None:
    with pytest.raises(KafkaException, match="LOAD_IN_PROGRESS"):
        retry_transient(Fails(*[LOADING] * 50), limit_s=0.2)


def test_the_caller_may_define_which_errors_are_transient() -> None:
    call = Fails(REFUSED)

    assert retry_transient(call, passes=lambda _: True) == 7

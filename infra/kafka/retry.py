"""Repeating calls that fail for a moment, such as right after a broker's start."""

import time
from collections.abc import Callable
from typing import TypeVar

import stamina
from confluent_kafka import KafkaError, KafkaException

from infra.kafka.config import OPERATION_TIMEOUT_S
from infra.kafka.errors import ErrorKind, classify

Result = TypeVar("Result")

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 0.25
_SHORTEST_TIMEOUT_S = 0.1  # a shorter one would end before a broker could respond


def is_transient(error: KafkaError) -> bool:
    """Whether the error passes by itself, as a consumer sees it."""
    return classify(error) is ErrorKind.TRANSIENT


def retry_transient(
    call: Callable[[float], Result],
    *,
    limit_s: float = OPERATION_TIMEOUT_S,
    passes: Callable[[KafkaError], bool] = is_transient,
) -> Result:
    """The result of `call(seconds left)`; called again after errors that pass by themselves.

    Right after a broker's start its coordinators are not loaded yet, and it says so at once instead
    of waiting for them. `passes` says which errors are transient.

    Raises:
        KafkaException: another error, or still this one after `limit_s`.
    """
    deadline_s = time.monotonic() + limit_s
    for attempt in stamina.retry_context(
        on=lambda error: isinstance(error, KafkaException) and passes(error.args[0]),
        attempts=None,
        timeout=limit_s,
        wait_initial=FIRST_PAUSE_S,
        wait_max=LONGEST_PAUSE_S,
        wait_jitter=0.0,
    ):
        with attempt:
            return call(max(deadline_s - time.monotonic(), _SHORTEST_TIMEOUT_S))
    raise AssertionError("stamina returns or raises")

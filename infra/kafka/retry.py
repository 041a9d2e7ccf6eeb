"""Asking again while a broker is still finding its feet."""

import time
from collections.abc import Callable
from typing import TypeVar

from confluent_kafka import KafkaException

from infra.kafka.config import OPERATION_TIMEOUT_S
from infra.kafka.errors import ErrorKind, classify

Answer = TypeVar("Answer")
_PAUSE_S = 0.1


def retry_transient(
    ask: Callable[[float], Answer], *, limit_s: float = OPERATION_TIMEOUT_S
) -> Answer:
    """What `ask(seconds left)` returns; repeated on errors that pass by themselves.

    Right after a broker's start its coordinators are not loaded yet, and it says so at once instead
    of waiting for them.

    Raises:
        KafkaException: another error, or still this one after `limit_s`.
    """
    deadline = time.monotonic() + limit_s
    while True:
        try:
            return ask(max(deadline - time.monotonic(), 0.1))
        except KafkaException as error:
            passing = classify(error.args[0]) is ErrorKind.TRANSIENT
            if not passing or time.monotonic() + _PAUSE_S > deadline:
                raise
        time.sleep(_PAUSE_S)

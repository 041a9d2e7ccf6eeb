"""Since when the brokers have given a consumer nothing but errors, and which error ends it."""

import time
from collections.abc import Callable

import structlog

from infra.kafka.errors import ConsumerFailed, ErrorKind, PositionLost, classify
from infra.kafka.message import ClientError

log = structlog.get_logger()

UNKNOWN_TOPIC_GRACE_S = 60.0


class BrokerTrouble:
    """Classifies the errors of a consumer: transient ones start the clock, others are raised."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = clock()
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """For how long there was nothing but errors; 0 when all is well."""
        return self._clock() - self._since if self._since is not None else 0.0

    @property
    def present(self) -> bool:
        """Whether the last result was an error."""
        return self._since is not None

    def observe(self, error: ClientError) -> None:
        """Take an error that came instead of records.

        Raises:
            ConsumerFailed: the client cannot go on.
            PositionLost: a position is outside its partition.
        """
        kind = classify(error)
        if kind is ErrorKind.POSITION_LOST:
            raise PositionLost(f"a position is outside its partition: {error.str()}")
        if kind is ErrorKind.FATAL or (kind is ErrorKind.UNKNOWN_TOPIC and not self._is_young()):
            raise ConsumerFailed(f"{error.name()}: {error.str()}")
        if kind is not ErrorKind.NOT_AN_ERROR:
            log.warning("consumer_trouble", code=error.name(), message=error.str())
            self.begin()

    def begin(self) -> None:
        """Trouble starts now, unless it is there already. Never raises: callbacks use it."""
        if self._since is None:
            self._since = self._clock()

    def end(self) -> None:
        """Records came, or a broker responded."""
        self._since = None

    def _is_young(self) -> bool:
        """Whether a topic that was just created may still be unknown to a broker."""
        return self._clock() - self._started <= UNKNOWN_TOPIC_GRACE_S

"""How far the online store may compact values: up to the time that no reader needs any more.

Compaction merges the rows of a value that were known before some time. After that the value is not
exact as of an earlier time. So ingest has to know the earliest decision time of any open request.
It learns that without reading a request:

1. An observation notes the newest event in the store, and then the end offsets of the request
   topics: together a checkpoint.
2. When the readers have committed all offsets of the checkpoint, every request that is still open
   was sent after that event. Its decision time is at most `least_us` before the event.
3. So everything known earlier than that may be compacted.

The end offsets cover all partitions, also those of other processes, and they are the same after a
restart. Only the order matters: the event is noted before the offsets are read.

A reader that stands still does not block compaction for ever. Rows that are `most_us` older than
the newest event are compacted anyway. A prediction as of an earlier time then has
`features_exact: false`.
"""

import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import structlog

from features.engine.sorting import UNSET
from infra.kafka.errors import KafkaFailed
from infra.kafka.partitions import Positions, has_reached
from infra.process.background import Background

log = structlog.get_logger()

OBSERVE_EVERY_S = 1.0
MAX_CHECKPOINTS = 1_000  # remembered at most: they are a thousandth of `most_us` apart

ReadPositions = Callable[[], Positions]


class ReaderCheckpoint(NamedTuple):
    """Readers that have committed `ends` are done with all requests sent before `newest_us`."""

    newest_us: int
    ends: Positions


# It follows the readers: see docs/explanation/decisions/0008-no-stream-watermark.md
class CompactionWatermark:
    """The time before which rows may be compacted. It never goes back.

    One thread calls `compacted_through_us`, another one `observe`.
    """

    def __init__(self, *, least_us: int, most_us: int) -> None:
        self.least_us, self.most_us = least_us, max(least_us, most_us)
        self.newest_us = UNSET
        self._checkpoints: deque[ReaderCheckpoint] = deque()
        self._reached_us = UNSET  # the newest event of the last checkpoint that readers reached

    @property
    def open_checkpoints(self) -> int:
        """How many checkpoints the readers have not reached yet."""
        return len(self._checkpoints)

    def compacted_through_us(self, newest_us: int) -> int:
        """Rows known before this may be compacted; `newest_us` is that of the newest event."""
        if newest_us == UNSET:
            return UNSET
        self.newest_us = max(self.newest_us, newest_us)
        # Both of the two only grow.
        by_readers_us = UNSET if self._reached_us == UNSET else self._reached_us - self.least_us
        return max(by_readers_us, self.newest_us - self.most_us)

    def observe(self, *, ends: ReadPositions, answered: ReadPositions) -> None:
        """Note how far the readers are.

        `ends` reads the end offsets of the request topics, `answered` the offsets that the readers
        have committed.

        Raises:
            KafkaFailed: the brokers do not respond; the watermark does not move.
        """
        newest_us = self.newest_us  # before the ends are read: later events may be in them
        end_offsets = ends()
        if newest_us != UNSET and self._is_far_enough(newest_us):
            self._checkpoints.append(ReaderCheckpoint(newest_us, end_offsets))
        committed = answered()
        while self._checkpoints and has_reached(committed, self._checkpoints[0].ends):
            self._reached_us = self._checkpoints.popleft().newest_us

    def _is_far_enough(self, newest_us: int) -> bool:
        """Whether a checkpoint here is far enough from the last one."""
        distance_us = self.most_us // MAX_CHECKPOINTS
        return not self._checkpoints or newest_us >= self._checkpoints[-1].newest_us + distance_us


class ReaderWatch(Background):
    """Observes the readers from a thread of its own, every `seconds`.

    `open_ends` and `open_answered` connect for as long as their block lasts.
    """

    def __init__(
        self,
        watermark: CompactionWatermark,
        *,
        open_ends: Callable[[], AbstractContextManager[ReadPositions]],
        open_answered: Callable[[], AbstractContextManager[ReadPositions]],
        seconds: float = OBSERVE_EVERY_S,
    ) -> None:
        self._watermark, self._seconds = watermark, seconds
        self._open_ends, self._open_answered = open_ends, open_answered
        self._last_error = ""
        super().__init__("readers", self._watch)

    def _watch(self, closed: threading.Event) -> None:
        while not closed.is_set():
            try:
                self._observe_until(closed)
            except KafkaFailed as error:
                self._log_once(str(error))
                closed.wait(self._seconds)

    def _observe_until(self, closed: threading.Event) -> None:
        with self._open_ends() as ends, self._open_answered() as answered:
            while not closed.wait(self._seconds):
                self._watermark.observe(ends=ends, answered=answered)
                self._last_error = ""

    def _log_once(self, error: str) -> None:
        """Log an error when it begins, not at every attempt."""
        if self._last_error != error:
            log.warning("readers_unknown", why=error)
        self._last_error = error

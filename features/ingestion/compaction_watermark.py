"""How long the online store keeps events apart: until the slowest reader has no question left.

A look notes the newest event that is in the store and, after that, where the request topics end.
Once the readers have answered up to there, every request that is still to be answered was sent
after that event. It may ask about `least_us` before it, and about nothing earlier. So ingest needs
to know of no request: not of those that it has not read yet, nor of those in partitions of another
process, nor of those that it had read before it was started anew.

A reader that does not move stops nothing for ever: what is `most_us` older than the newest event is
settled, and who asks about it then gets an answer that is marked.
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

LOOK_S = 1.0
LOOKS = 1_000  # so many are remembered at most: they lie a thousandth of `most_us` apart

Ask = Callable[[], Positions]


class ReaderCheckpoint(NamedTuple):
    """Whoever has answered up to `ends` has answered what was asked before `newest_us` was in."""

    newest_us: int
    ends: Positions


# It follows the readers: see docs/explanation/decisions/0008-no-stream-watermark.md
class CompactionWatermark:
    """How far values may be settled: not what readers may still ask about, but never less.

    One thread asks `compacted_through_us`, another one tells of the readers.
    """

    def __init__(self, *, least_us: int, most_us: int) -> None:
        self.least_us, self.most_us = least_us, max(least_us, most_us)
        self.newest_us = UNSET
        self._looks: deque[ReaderCheckpoint] = deque()
        self._free_us = UNSET  # readers are done with what was asked before this was in

    def compacted_through_us(self, newest_us: int) -> int:
        """What was known before it may be settled, as of the newest event. Never goes back."""
        if newest_us == UNSET:
            return UNSET
        self.newest_us = max(self.newest_us, newest_us)
        # Both of the two only grow.
        asked_us = UNSET if self._free_us == UNSET else self._free_us - self.least_us
        return max(asked_us, self.newest_us - self.most_us)

    def observe(self, *, ends: Ask, answered: Ask) -> None:
        """Note how far the readers are. `ends` of the request topics, `answered` by the readers.

        Raises:
            KafkaFailed: no answer; what is held stays held.
        """
        newest_us = self.newest_us  # before the ends are asked: what came later may be in them
        found = ends()
        if newest_us != UNSET and self._is_worth_a_look(newest_us):
            self._looks.append(ReaderCheckpoint(newest_us, found))
        done = answered()
        while self._looks and has_reached(done, self._looks[0].ends):
            self._free_us = self._looks.popleft().newest_us

    def _is_worth_a_look(self, newest_us: int) -> bool:
        apart_us = self.most_us // LOOKS
        return not self._looks or newest_us >= self._looks[-1].newest_us + apart_us


class ReaderWatch(Background):
    """Looks at the readers from a thread of its own, every `seconds`.

    `open_ends` and `open_answered` connect for as long as their block lasts.
    """

    def __init__(
        self,
        watermark: CompactionWatermark,
        *,
        open_ends: Callable[[], AbstractContextManager[Ask]],
        open_answered: Callable[[], AbstractContextManager[Ask]],
        seconds: float,
    ) -> None:
        self._watermark, self._seconds = watermark, seconds
        self._open_ends, self._open_answered = open_ends, open_answered
        self._trouble = ""
        super().__init__("readers", self._watch)

    def _watch(self, closed: threading.Event) -> None:
        while not closed.is_set():
            try:
                self._look_on(closed)
            except KafkaFailed as error:
                self._note(str(error))
                closed.wait(self._seconds)

    def _look_on(self, closed: threading.Event) -> None:
        with self._open_ends() as ends, self._open_answered() as answered:
            while not closed.wait(self._seconds):
                self._watermark.observe(ends=ends, answered=answered)
                self._trouble = ""

    def _note(self, trouble: str) -> None:
        """Say it once, not at every look."""
        if self._trouble != trouble:
            log.warning("readers_unknown", why=trouble)
        self._trouble = trouble

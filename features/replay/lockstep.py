"""A replay in step with the pipeline: what live serving sees is what history says it saw.

Before a request goes out, everything emitted before it is in the online store. And events run no
further ahead of the answers than the online store answers exactly about the past.

Waiting costs a round trip through ingest, so rows come in steps (`ReplayPlan.step_minutes`): the
events of a step, a wait, its requests. What a request sees is what was known before it, whatever
else is in the store by then.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from features.errors import FeatureError
from infra.clock import HOUR
from infra.kafka.partitions import Partition, Positions, has_reached

if TYPE_CHECKING:
    import polars as pl

STEP_MINUTES = 15
AHEAD_US = 6 * HOUR
PATIENCE_S = 60.0  # without any progress; a process that is being restarted takes less
PAUSE_S = 0.002
_LONG_AGO_US = -(1 << 62)


class Stalled(FeatureError):
    """Nothing has moved for too long: something that the replay waits for does not run."""


class LockStep:
    """A pace: events up to a request, wait, the requests, and so on. See `replayer.Pace`.

    `applied` gives the positions of the online store, `answered` those of serving; `sent_before`
    is what was sent by an earlier replay, or an earlier part of this one. Waits end early when
    `stopping` says so.
    """

    wants_arrivals = True

    def __init__(
        self,
        frame: pl.DataFrame,
        *,
        requests: frozenset[str],
        applied: Callable[[], Positions],
        answered: Callable[[], Positions],
        batch: int,
        sent_before: Positions,
        ahead_us: int = AHEAD_US,
        patience_s: float = PATIENCE_S,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._known_at_us = frame["known_at_us"].to_numpy()
        self._asks = frame["event"].is_in(list(requests)).to_numpy()
        # Where requests follow events or events follow requests.
        self._turns = np.flatnonzero(np.diff(self._asks)) + 1
        self._applied, self._answered = applied, answered
        self._batch, self._ahead_us, self._patience_s = batch, ahead_us, patience_s
        self._stopping = stopping
        self._told = dict(sent_before)
        self._open: deque[tuple[int, dict[Partition, int]]] = deque()
        self._answered_to: Positions = {}  # as of the last look: a look costs a connection
        if asked_before := {p: end for p, end in sent_before.items() if p.topic in requests}:
            self._open.append((_LONG_AGO_US, asked_before))  # nobody knows when that was

    def batch_end(self, start: int) -> int:
        """Events and requests never share a batch."""
        turn = int(np.searchsorted(self._turns, start, "right"))
        end = int(self._turns[turn]) if turn < len(self._turns) else len(self._asks)
        return min(end, start + self._batch)

    def before(self, start: int, end: int) -> None:
        """Requests wait for what was emitted before them, and for old answers."""
        if not self._asks[start]:
            return
        self._wait(self._applied, self._told, _INGEST)
        self._told.clear()
        horizon = int(self._known_at_us[end - 1]) - self._ahead_us
        while self._open and self._open[0][0] < horizon:
            _, asked = self._open.popleft()
            if not has_reached(self._answered_to, asked):
                self._wait(self._look_for_answers, asked, _SERVING)

    def after(self, start: int, _end: int, arrived: Mapping[Partition, int]) -> None:
        """Remember what to wait for."""
        if self._asks[start]:
            self._open.append((int(self._known_at_us[start]), dict(arrived)))
        else:
            self._told.update(arrived)

    def _look_for_answers(self) -> Positions:
        self._answered_to = self._answered()
        return self._answered_to

    def _wait(self, positions: Callable[[], Positions], ends: Positions, what: str) -> None:
        wait_for(positions, ends, what=what, patience_s=self._patience_s, stopping=self._stopping)


_INGEST = "ingest has not taken in what was sent"
_SERVING = "serving has not answered what was asked"


def wait_for(
    positions: Callable[[], Positions],
    ends: Positions,
    *,
    what: str,
    patience_s: float = PATIENCE_S,
    pause_s: float = PAUSE_S,
    progress: Callable[[int], None] = lambda _left: None,
    stopping: Callable[[], bool] = lambda: False,
) -> None:
    """Return when `positions` have reached `ends`, or when `stopping` says so.

    `progress` is told how many offsets are left.

    Raises:
        Stalled: nothing moved for `patience_s`; the message begins with `what`.
    """
    best, since = None, time.monotonic()
    while not has_reached(found := positions(), ends) and not stopping():
        left = {p: end - found.get(p, 0) for p, end in ends.items() if found.get(p, 0) < end}
        total = sum(left.values())
        progress(total)
        if best is None or total < best:
            best, since = total, time.monotonic()
        elif time.monotonic() - since > patience_s:
            topics = sorted({p.topic for p in left})
            raise Stalled(
                f"{what}: {total} records of {', '.join(topics)}, no progress for"
                f" {patience_s:.0f} s",
                hint="`eventide status` says what runs, `eventide logs` why not",
            )
        time.sleep(pause_s)

"""A replay in step with the pipeline, so that live serving sees what history says it saw.

A request is sent only when the online store holds everything that was emitted before it. Events are
sent at most `ahead_us` before the oldest open request, as long as the online store can still answer
that request exactly.

Each wait costs a round trip through ingest. So rows come in steps (`ReplayPlan.step_minutes`): the
events of a step, a wait, the requests of the step. A request sees only what was known before it,
even if later events are in the store by then.
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
    """Nothing has moved for too long: a process that the replay waits for does not run.

    `left`: how many records it has not reached yet, by partition.
    """

    hint = "`eventide status` shows what runs, `eventide logs` shows why a process does not"

    def __init__(self, reason: str, *, left: Positions, patience_s: float) -> None:
        self.left, self.patience_s = left, patience_s
        topics = ", ".join(sorted({partition.topic for partition in left}))
        super().__init__(
            f"{reason}: {sum(left.values())} records of {topics}, no progress for"
            f" {patience_s:.0f} s"
        )


class LockStep:
    """A pace: events up to a request, wait, the requests, and so on. See `replayer.Pace`.

    `applied` reads the positions of the online store, `answered` those of serving. `sent_before`:
    the ends of what an earlier replay, or an earlier part of this one, has sent. Waits end early
    when `stopping` returns true.
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
        self._is_request = frame["event"].is_in(list(requests)).to_numpy()
        # Where requests follow events or events follow requests.
        self._turns = np.flatnonzero(np.diff(self._is_request)) + 1
        self._applied, self._answered = applied, answered
        self._batch, self._ahead_us, self._patience_s = batch, ahead_us, patience_s
        self._stopping = stopping
        self._sent_events = dict(sent_before)
        self._open: deque[tuple[int, dict[Partition, int]]] = deque()
        self._answered_to: Positions = {}  # as of the last read: a read costs a connection
        if sent_requests := {p: end for p, end in sent_before.items() if p.topic in requests}:
            self._open.append((_LONG_AGO_US, sent_requests))  # its time is unknown

    def batch_end(self, start: int) -> int:
        """Events and requests never share a batch."""
        turn = int(np.searchsorted(self._turns, start, "right"))
        end = int(self._turns[turn]) if turn < len(self._turns) else len(self._is_request)
        return min(end, start + self._batch)

    def before(self, start: int, end: int) -> None:
        """Requests wait for all earlier events, and for the outcomes of much older requests."""
        if not self._is_request[start]:
            return
        self._wait(self._applied, self._sent_events, _INGEST)
        self._sent_events.clear()
        horizon = int(self._known_at_us[end - 1]) - self._ahead_us
        while self._open and self._open[0][0] < horizon:
            _, ends = self._open.popleft()
            if not has_reached(self._answered_to, ends):
                self._wait(self._read_answered, ends, _SERVING)

    def after(self, start: int, _end: int, arrived: Mapping[Partition, int]) -> None:
        """Note the ends that later requests wait for."""
        if self._is_request[start]:
            self._open.append((int(self._known_at_us[start]), dict(arrived)))
        else:
            self._sent_events.update(arrived)

    def _read_answered(self) -> Positions:
        self._answered_to = self._answered()
        return self._answered_to

    def _wait(self, positions: Callable[[], Positions], ends: Positions, reason: str) -> None:
        wait_for(
            positions, ends, reason=reason, patience_s=self._patience_s, stopping=self._stopping
        )


_INGEST = "ingest has not applied all sent events"
_SERVING = "serving has not written all outcomes"


def wait_for(
    positions: Callable[[], Positions],
    ends: Positions,
    *,
    reason: str,
    patience_s: float = PATIENCE_S,
    pause_s: float = PAUSE_S,
    on_progress: Callable[[int], None] = lambda _left: None,
    stopping: Callable[[], bool] = lambda: False,
) -> None:
    """Return when `positions` have reached `ends`, or when `stopping` says so.

    `on_progress` gets the number of offsets that are left.

    Raises:
        Stalled: nothing moved for `patience_s`; the message begins with `reason`.
    """
    best, since = None, time.monotonic()
    while not has_reached(reached := positions(), ends) and not stopping():
        left = {p: end - reached.get(p, 0) for p, end in ends.items() if reached.get(p, 0) < end}
        total = sum(left.values())
        on_progress(total)
        if best is None or total < best:
            best, since = total, time.monotonic()
        elif time.monotonic() - since > patience_s:
            raise Stalled(reason, left=left, patience_s=patience_s)
        time.sleep(pause_s)

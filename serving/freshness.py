"""Whether the online store has what was emitted before a batch of requests, and the wait for it."""

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, ExitStack

import structlog

from features.engine.sorting import UNSET
from features.stores.ports import OnlineStore
from infra.clock import MILLISECOND
from infra.kafka.errors import KafkaFailed
from infra.kafka.partitions import Partition, Positions
from serving import metrics

log = structlog.get_logger()

PAUSE_S = 0.005

Ends = Callable[[], Positions]


def complete_to_us(
    partitions: Collection[Partition],
    *,
    newest_us: Mapping[Partition, int],
    positions: Positions,
    ends: Positions,
    asked_us: int,
) -> int:
    """Everything that was emitted before this moment is in the store.

    A partition is complete up to the newest emission that the store has of it, for a source emits
    in order; and up to `asked_us`, the newest request's emission, where the store stands at its
    end. `ends` were asked for after that request came; a partition that is not in it has no known
    end. An idle partition is complete by its end, a busy one of a fast replay by its events.
    """
    # Emission is told in whole milliseconds: nothing can be told apart within that of the request.
    at_end_us = asked_us + MILLISECOND - 1
    return min(
        (
            max(newest_us.get(p, UNSET), at_end_us if _at_end(p, positions, ends) else UNSET)
            for p in partitions
        ),
        default=at_end_us,
    )


class Freshness:
    """Waits until the store has what was emitted before a batch, but no longer than `max_wait_s`.

    A wait that ran out while ingest applied nothing at all is not repeated until it applies
    something: while ingest is down only the first batch waits.
    """

    def __init__(
        self,
        store: OnlineStore,
        partitions: Collection[Partition],
        *,
        open_ends: Callable[[], AbstractContextManager[Ends]],
        max_wait_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._store, self._partitions = store, partitions
        self._max_wait_s, self._clock, self._sleep = max_wait_s, clock, sleep
        self._connection = ExitStack()
        self._ask = self._connection.enter_context(open_ends())
        self._stuck_at: Positions | None = None  # here ingest stood for a whole wait

    def wait_for(self, emitted_us: int, *, go_on: Callable[[], bool] = lambda: True) -> int:
        """`complete_to_us` of the store, when it has reached `emitted_us` or no wait is left.

        `emitted_us` is the newest emission of a batch that has come. `go_on` is asked at each look.

        Raises:
            StoreUnavailable: the store does not answer; trying again may help.
        """
        begun, first = self._clock(), self._progress()
        complete = self._complete_to_us(emitted_us, first, ends={})
        if complete >= emitted_us:
            metrics.INGEST_BEHIND.set(0)
            return complete
        # Perhaps there is nothing newer. One question for each batch: a later end would be that of
        # events which came after its requests.
        ends, positions = self._ends(), first
        _show_lack(ends, positions)
        while True:
            complete = self._complete_to_us(emitted_us, positions, ends=ends)
            late = self._clock() - begun >= self._max_wait_s
            if complete >= emitted_us or late or positions == self._stuck_at or not go_on():
                break
            self._sleep(PAUSE_S)
            positions = self._progress()
        if complete >= emitted_us:
            self._stuck_at = None
        elif late and positions == first:
            self._stuck_at = positions
        _show_lack(ends, positions)
        return complete

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def _complete_to_us(self, emitted_us: int, positions: Positions, *, ends: Positions) -> int:
        return complete_to_us(
            self._partitions,
            newest_us=self._store.newest_known_at_us(),
            positions=positions,
            ends=ends,
            asked_us=emitted_us,
        )

    def _progress(self) -> Positions:
        found = self._store.positions()
        return {p: found.get(p, 0) for p in self._partitions}

    def _ends(self) -> Positions:
        try:
            return self._ask()
        except KafkaFailed as error:
            log.warning("ends_unknown", why=str(error))
            return {}


def _at_end(partition: Partition, positions: Positions, ends: Positions) -> bool:
    return partition in ends and positions.get(partition, 0) >= ends[partition]


def _show_lack(ends: Positions, positions: Positions) -> None:
    metrics.INGEST_BEHIND.set(sum(max(0, end - positions.get(p, 0)) for p, end in ends.items()))

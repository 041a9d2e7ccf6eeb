"""Waits until the online store has the events that were emitted before a batch of requests."""

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
PARTITIONS_EVERY_S = 1.0  # how often the brokers are asked whether a topic has got partitions

Ends = Callable[[], Positions]


def complete_to_us(
    partitions: Collection[Partition],
    *,
    newest_us: Mapping[Partition, int],
    positions: Positions,
    ends: Positions,
    request_emitted_us: int,
) -> int:
    """Everything that was emitted before this moment is in the store.

    A partition is complete up to the newest emission that the store has of it, for a source emits
    in order. Where the store is at the partition's end, it is complete up to `request_emitted_us`,
    the emission of the newest request. `ends` were read after that request came; a partition that
    is not in it has no known end. So an idle partition is complete by its end, a busy one of a fast
    replay by its events.
    """
    # Kafka keeps emission times in whole milliseconds: the request's own is not divided further.
    at_end_us = request_emitted_us + MILLISECOND - 1
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
        self._store, self._partitions = store, set(partitions)
        self._max_wait_s, self._clock, self._sleep = max_wait_s, clock, sleep
        self._connection = ExitStack()
        self._read_ends = self._connection.enter_context(open_ends())
        self._stalled_at: Positions | None = None  # ingest stood here for a whole wait
        self._ends_read_s = self._clock()

    def wait_for(self, emitted_us: int, *, keep_waiting: Callable[[], bool] = lambda: True) -> int:
        """Wait until the store has all that was emitted before `emitted_us`; `complete_to_us` then.

        `emitted_us` is the newest emission of a batch that has come. The wait also ends, with an
        earlier moment, after `max_wait_s`, when ingest stands still, or when `keep_waiting`, which
        is called at each check, returns False.

        Raises:
            StoreUnavailable: the store does not respond; trying again may help.
        """
        began_s = self._clock()
        if began_s - self._ends_read_s >= PARTITIONS_EVERY_S:
            self._ends()  # names partitions that a topic has got since
        positions = self._store_positions()
        complete = self._complete_to_us(emitted_us, positions, ends={})
        if complete >= emitted_us:
            metrics.INGEST_BEHIND.set(0)
            return complete
        return self._wait_for_ingest(
            emitted_us, positions, began_s=began_s, keep_waiting=keep_waiting
        )

    def _wait_for_ingest(
        self,
        emitted_us: int,
        first: Positions,
        *,
        began_s: float,
        keep_waiting: Callable[[], bool],
    ) -> int:
        # Perhaps there is nothing newer. The ends are read once a batch: later ends would be those
        # of events which came after its requests.
        ends, positions = self._ends(), first
        _show_ingest_lag(ends, positions)
        while True:
            complete = self._complete_to_us(emitted_us, positions, ends=ends)
            timed_out = self._clock() - began_s >= self._max_wait_s
            is_stalled = positions == self._stalled_at
            if complete >= emitted_us or timed_out or is_stalled or not keep_waiting():
                break
            self._sleep(PAUSE_S)
            positions = self._store_positions()
        if complete >= emitted_us:
            self._stalled_at = None
        elif timed_out and positions == first:
            self._stalled_at = positions
        _show_ingest_lag(ends, positions)
        return complete

    def close(self) -> None:
        """Close the connection to the brokers."""
        self._connection.close()

    def _complete_to_us(self, emitted_us: int, positions: Positions, *, ends: Positions) -> int:
        return complete_to_us(
            self._partitions,
            newest_us=self._store.newest_known_at_us(),
            positions=positions,
            ends=ends,
            request_emitted_us=emitted_us,
        )

    def _store_positions(self) -> Positions:
        positions = self._store.positions()
        return {p: positions.get(p, 0) for p in self._partitions}

    def _ends(self) -> Positions:
        self._ends_read_s = self._clock()
        try:
            ends = self._read_ends()
        except KafkaFailed as error:
            log.warning("ends_unknown", why=str(error))
            return {}
        if added := ends.keys() - self._partitions:
            log.warning(
                "partitions_added",
                partitions=sorted(f"{p.topic}-{p.number}" for p in added),
                why="a topic has more partitions than before",
                hint="features are not fresh until ingest reads them too: see its log",
            )
            self._partitions |= added
        return ends


def _at_end(partition: Partition, positions: Positions, ends: Positions) -> bool:
    return partition in ends and positions.get(partition, 0) >= ends[partition]


def _show_ingest_lag(ends: Positions, positions: Positions) -> None:
    metrics.INGEST_BEHIND.set(sum(max(0, end - positions.get(p, 0)) for p, end in ends.items()))

"""When an event that was sent twice counts once: one rule for the online store and for history.

An event is dropped if the previous sighting of its id in its partition, in the order of offsets,
was emitted at most one duplicate horizon before it. A dropped event is a sighting too. The key of
an event decides its partition, so all sightings of an id are in one.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from features.definitions import BoolArray, EventType, Int64Array, View
from features.engine.sorting import UNSET
from infra.clock import DAY
from infra.kafka.partitions import Partition

MAX_SEEN_IDS = 5_000_000
"""Of one partition; about 300 bytes each. Within two days that is 29 events a second."""

EARLY_US = DAY
"""Longer than an event may happen after its emission."""


@dataclass(frozen=True, kw_only=True)
class SeenIds:
    """Event ids of one partition in the order of their offsets, and when each was emitted.

    `first_offset` identifies the slice: it is the position before the batch that brought the ids.
    A slice without ids and with one time stands for those that were forgotten, up to that time,
    because there were too many.
    """

    partition: Partition
    first_offset: int
    ids: Sequence[str]
    known_at_us: Int64Array


class DeduplicationWindow:
    """The ids of one partition that were seen recently; events pass it in the order of offsets.

    An id is kept until the partition's newest event is `keep_us` younger than it (default: two
    horizons). So the online store and history agree about events that are out of the order of
    emission by less than `keep_us - horizon_us`. `keep_us` must be at least as long as an exact
    query can reach back. Later ones `may_repeat` an event whose id is forgotten. Of more than
    `max_ids` the oldest are forgotten sooner, slice by slice; the newest slice always stays.
    """

    def __init__(
        self,
        horizon_us: int,
        slices: Iterable[SeenIds] = (),
        *,
        keep_us: int | None = None,
        max_ids: int = MAX_SEEN_IDS,
    ) -> None:
        self._horizon_us, self._max_ids = horizon_us, max_ids
        self._keep_us = 2 * horizon_us if keep_us is None else keep_us
        self._last: dict[str, int] = {}
        self._slices: deque[SeenIds] = deque()
        self._newest_us = UNSET
        self._forgotten_us = UNSET
        self.forgotten_early = 0  # ids that were forgotten because there were too many
        for seen in slices:
            if len(seen.ids):
                self._last.update(zip(seen.ids, seen.known_at_us.tolist(), strict=True))
                self._note(seen)
            else:
                self._slices.append(seen)
                self._forgotten_us = int(seen.known_at_us[0]) + 1
        self._forgotten_us = max(self._forgotten_us, self._forgotten_before_restart())

    def __len__(self) -> int:
        return len(self._last)

    def first_sightings(self, seen: SeenIds) -> BoolArray:
        """Which of these events are no duplicates. The ids of all of them are remembered."""
        last, horizon = self._last, self._horizon_us
        counts = np.empty(len(seen.ids), bool)
        for i, (event_id, known) in enumerate(
            zip(seen.ids, seen.known_at_us.tolist(), strict=True)
        ):
            before = last.get(event_id)
            counts[i] = before is None or known - before > horizon
            last[event_id] = known
        self._note(seen)
        return counts

    def may_repeat(self, known_at_us: Int64Array) -> BoolArray:
        """Which events, by when they became known, may repeat one whose id is forgotten."""
        repeats: BoolArray = known_at_us < self._forgotten_us + self._horizon_us
        return repeats

    def forget(self) -> tuple[list[int], list[SeenIds]]:
        """Drop slices that are too old to matter, and the oldest ones if there are too many ids.

        Returns the first offsets of dropped slices, and slices that replace others.
        """
        dropped = []
        limit = self._newest_us - self._keep_us
        while self._slices and self._slices[0].known_at_us.max() < limit:
            dropped.append(self._drop_oldest(limit).first_offset)
        replaced = None
        while len(self._last) > self._max_ids and len(self._slices) > 1:
            known, before = int(self._slices[0].known_at_us.max()), len(self._last)
            replaced = self._drop_oldest(known + 1)
            dropped.append(replaced.first_offset)
            self.forgotten_early += before - len(self._last)
        if replaced is None:
            return dropped, []
        forgotten = SeenIds(
            partition=replaced.partition,
            first_offset=replaced.first_offset,
            ids=(),
            known_at_us=np.array([self._forgotten_us - 1]),
        )
        self._slices.appendleft(forgotten)
        return dropped[:-1], [forgotten]

    def _drop_oldest(self, limit: int) -> SeenIds:
        """Forget the ids of the oldest slice that were not seen at `limit` or later."""
        self._forgotten_us = max(self._forgotten_us, limit)
        oldest = self._slices.popleft()
        for event_id in oldest.ids:
            if self._last.get(event_id, limit) < limit:
                del self._last[event_id]
        return oldest

    def _forgotten_before_restart(self) -> int:
        """Before when ids may have been forgotten: none while the first slice is there."""
        if not self._slices or self._slices[0].first_offset == 0:
            return UNSET
        return self._newest_us - self._keep_us

    def _note(self, seen: SeenIds) -> None:
        if len(seen.ids):
            self._slices.append(seen)
            self._newest_us = max(self._newest_us, int(seen.known_at_us.max()))


def ids_kept_us(
    views: Iterable[View],
    event: EventType,
    *,
    horizon_us: int,
    hold_us: int,
    max_future_us: int = 0,
) -> int:
    """How long the ids of an event type are kept, given the views that are computed from it.

    A source may send a whole span again, in any order: as long as a copy can count for a query that
    is exact, the id of the event that it repeats has to be known. `max_future_us`: how long after
    its emission an event may happen.
    """
    longest_us = max((view.lookback_us for view in views), default=0)
    early_us = max_future_us + event.known_after_us
    return max(2 * horizon_us, longest_us + hold_us + horizon_us + early_us)


def first_sightings(
    *,
    ids: Int64Array,
    partitions: Int64Array,
    offsets: Int64Array,
    known_at_us: Int64Array,
    horizon_us: int,
) -> BoolArray:
    """Which events are no duplicates, by the rule of `DeduplicationWindow`.

    `ids` are codes; rows are in any order.
    """
    order = np.lexsort((offsets, ids, partitions))
    group, code, known = partitions[order], ids[order], known_at_us[order]
    counts = np.ones(len(order), bool)
    same_id = (group[1:] == group[:-1]) & (code[1:] == code[:-1])
    counts[order[1:]] = ~(same_id & (known[1:] - known[:-1] <= horizon_us))
    return counts

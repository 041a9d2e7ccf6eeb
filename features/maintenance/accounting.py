"""Counts what was sent against what was stored, dead-lettered and predicted. Pure.

The place of a record, its partition and offset, is packed into one int64. So a million records are
an array of 8 MB.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from features.definitions import Int64Array

_OFFSET_BITS = 48


@dataclass(frozen=True, kw_only=True)
class TopicAccount:
    """Where the records of one topic are.

    `waiting` records are at or above the position of the sink, which does not claim to have them.
    `missing` records are below it and nowhere. `doubled` records are there more than once, or both
    stored and dead-lettered. `resent` counts records with the event id of an earlier one: the
    source has sent them twice.
    """

    topic: str
    sent: int
    stored: int
    dead_lettered: int
    waiting: int
    missing: int
    doubled: int
    resent: int


@dataclass(frozen=True, kw_only=True)
class RequestAccount:
    """The outcomes of the requests of one topic. Terms as in `TopicAccount`.

    `stale` predictions were made before ingest had caught up. They are marked, and are no error.
    """

    topic: str
    asked: int
    predicted: int
    stale: int
    rejected: int
    waiting: int
    unanswered: int
    answered_twice: int


def place(partition: int, offset: int) -> int:
    """The packed place of a record within its topic."""
    return (partition << _OFFSET_BITS) | offset


def places(partitions: Int64Array, offsets: Int64Array) -> Int64Array:
    """`place` of many records, shape `(n,)`."""
    packed: Int64Array = (partitions.astype(np.int64) << _OFFSET_BITS) | offsets
    return packed


def account_topic(
    topic: str,
    *,
    sent: Int64Array,
    stored: Int64Array,
    dead: Int64Array,
    positions: Mapping[int, int],
    event_ids: Int64Array,
) -> TopicAccount:
    """Account for one topic.

    `sent`, `stored` and `dead` are places; `positions` gives the next offset of each partition as
    the offline store has it; `event_ids` are 64-bit hashes of the ids that could be read.
    """
    stored_once, twice_stored = _unique(stored)
    dead_once, twice_dead = _unique(dead)
    lost = np.setdiff1d(sent, np.union1d(stored_once, dead_once))
    waiting = _at_or_above(lost, positions)
    return TopicAccount(
        topic=topic,
        sent=len(sent),
        stored=len(stored_once),
        dead_lettered=len(dead_once),
        waiting=waiting,
        missing=len(lost) - waiting,
        doubled=twice_stored + twice_dead + len(np.intersect1d(stored_once, dead_once)),
        resent=len(event_ids) - len(np.unique(event_ids)),
    )


def account_requests(
    topic: str,
    *,
    asked: Int64Array,
    predicted: Int64Array,
    rejected: Int64Array,
    positions: Mapping[int, int],
    stale: int = 0,
) -> RequestAccount:
    """Account for one topic of requests; `positions` are those that serving has committed."""
    outcomes, repeated = _unique(np.concatenate([predicted, rejected]))
    open_ = np.setdiff1d(asked, outcomes)
    waiting = _at_or_above(open_, positions)
    return RequestAccount(
        topic=topic,
        asked=len(asked),
        predicted=len(predicted),
        stale=stale,
        rejected=len(rejected),
        waiting=waiting,
        unanswered=len(open_) - waiting,
        answered_twice=repeated,
    )


def _unique(values: Int64Array) -> tuple[Int64Array, int]:
    """Each value once, and how many repeated ones there were."""
    once = np.unique(values)
    return once, len(values) - len(once)


def _at_or_above(values: Int64Array, positions: Mapping[int, int]) -> int:
    """How many of the places lie at or above the position of their partition."""
    partitions = values >> _OFFSET_BITS
    offsets = values & ((1 << _OFFSET_BITS) - 1)
    reached = np.array([positions.get(int(p), 0) for p in np.unique(partitions)], dtype=np.int64)
    index = np.searchsorted(np.unique(partitions), partitions)
    return int((offsets >= reached[index]).sum()) if len(values) else 0

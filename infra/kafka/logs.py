"""Which log a position belongs to, and what a log holds.

A topic that is deleted and created again has the same name and another id. Its offsets begin at 0
again, so the same offset would mean two records. Stored positions therefore never go back: a stored
position is the offset in the log plus the `base` of its origin. The base is 0 until a lost log was
replaced by another one and the gap was accepted.
"""

from collections.abc import Mapping
from typing import NamedTuple

from msgspec import Struct

from infra.kafka.partitions import Partition, Positions


class LogOrigin(Struct, frozen=True, kw_only=True):
    """The log that stored positions belong to, by the id of its topic."""

    topic_id: str
    base: int = 0

    @property
    def mark(self) -> str:
        """As the metadata of a committed position."""
        return f"{self.topic_id}:{self.base}" if self.base else self.topic_id

    @classmethod
    def of_mark(cls, mark: str) -> "LogOrigin | None":
        """The origin in a committed position's metadata; None when it was not written by us."""
        topic_id, _, base = mark.partition(":")
        if not topic_id or not (base.isdecimal() or not base):
            return None
        return cls(topic_id=topic_id, base=int(base or 0))


Origins = Mapping[Partition, LogOrigin]


class Log(NamedTuple):
    """The log of a partition: the id of its topic, and the offsets `[first, end)` that it holds."""

    topic_id: str
    first: int
    end: int


Logs = Mapping[Partition, Log]


class CommittedPosition(NamedTuple):
    """An offset that a group has committed, and its metadata: the mark of its origin, or ""."""

    offset: int
    mark: str


def stored_positions(offsets: Positions, origins: Origins) -> Positions:
    """Offsets in the logs as stored positions."""
    return {p: o + _base(origins, p) for p, o in offsets.items()}


def log_offsets(positions: Positions, origins: Origins) -> Positions:
    """Stored positions as offsets in the logs."""
    return {p: o - _base(origins, p) for p, o in positions.items()}


def _base(origins: Origins, partition: Partition) -> int:
    origin = origins.get(partition)
    return 0 if origin is None else origin.base

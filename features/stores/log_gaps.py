"""What is lost when the brokers no longer have what a sink reads next. Pure.

A sink (`online`, `offline`, `dead letters`, `serving`) has a position in each partition. The log
must still begin at or before it, and not end before it; and it must be the same log. If not,
records were lost or would be skipped. Every sink is checked, not only the one that is behind.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from features.stores.ports import AcceptedGap
from infra.kafka.errors import PositionLost
from infra.kafka.logs import Log, LogOrigin, Origins
from infra.kafka.partitions import Partition

ONLINE, OFFLINE, DEAD_LETTERS, SERVING = "online", "offline", "dead letters", "serving"
"""The names of the sinks."""

EXPIRED = "expired"  # the log begins after the position
TRUNCATED = "truncated"  # the log ends before the position
REPLACED = "replaced"  # the topic was deleted and created again
UNKNOWN = "unknown"  # where the sink stood can no longer be found out

_SENTENCES = {
    EXPIRED: "begins after it: records were deleted before they were read",
    TRUNCATED: "ends before it: the brokers have lost records",
    REPLACED: "is another one: the topic was deleted and created again",
    UNKNOWN: "does not say where it stood: its outcomes were deleted",
}


@dataclass(frozen=True, kw_only=True)
class SinkPosition:
    """Where a sink stands, and in which log; None when that was never noted.

    `position` None: it stood somewhere, and that is not known any more.
    """

    sink: str
    position: int | None
    origin: LogOrigin | None = None


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Sinks of one partition that cannot continue where they stand."""

    partition: Partition
    log: Log
    kinds: Mapping[str, str]  # by the name of the sink; the sinks that can continue are left out
    sinks: Sequence[SinkPosition]  # all of them

    def __str__(self) -> str:
        """One sentence."""
        name, kind = next(iter(self.kinds.items()))
        at = next(s.position for s in self.sinks if s.sink == name)
        more = f" (and of {', '.join(list(self.kinds)[1:])})" if len(self.kinds) > 1 else ""
        return (
            f"{self.partition.topic}-{self.partition.number}: the position {at} of {name}{more} is"
            f" lost; the log holds [{self.log.first}, {self.log.end}) and {_SENTENCES[kind]}"
        )

    @property
    def previous(self) -> LogOrigin | None:
        """The log that the sinks read before."""
        origins = [s.origin for s in self.sinks if s.origin is not None]
        return max(origins, key=lambda origin: origin.base, default=None)

    def accepted(
        self, *, by: str, reason: str, noted: LogOrigin | None = None
    ) -> "tuple[LogOrigin, AcceptedGap]":
        """How the sinks go on. No position goes back, so that no place names two records."""
        offsets = {s.sink: self._resume_offset(s) for s in self.sinks}
        known = [s for s in self.sinks if s.position is not None]
        least = max(o.base if o is not None else 0 for o in (noted, self.previous))
        base = max([least, *((s.position or 0) - offsets[s.sink] for s in known)])
        return LogOrigin(topic_id=self.log.topic_id, base=base), AcceptedGap(
            kind=", ".join(sorted(set(self.kinds.values()))),
            positions={s.sink: s.position for s in known if s.position is not None},
            resume={name: offset + base for name, offset in offsets.items()},
            first=self.log.first,
            end=self.log.end,
            previous_topic_id=self.previous.topic_id if self.previous else "",
            by=by,
            reason=reason,
        )

    def _resume_offset(self, sink: SinkPosition) -> int:
        if sink.position is None:
            return self.log.end  # nothing is answered twice
        if self.kinds.get(sink.sink) == REPLACED:
            return self.log.first
        offset = sink.position - (sink.origin.base if sink.origin else 0)
        return min(max(offset, self.log.first), self.log.end)


def find_gaps(
    logs: Mapping[Partition, Log],
    sinks: Mapping[Partition, Sequence[SinkPosition]],
    noted: Origins,
) -> list[Gap]:
    """The gaps of these partitions. A sink that was never anywhere is not listed in `sinks`.

    `noted`: the logs that the stores have noted, also for partitions without a position.
    """
    gaps = []
    for partition, log in sorted(logs.items()):
        of_partition = sinks.get(partition, ())
        current = current_origin(log, of_partition, noted.get(partition))
        gap = gap_of(partition, log, of_partition, current=current)
        if gap is not None:
            gaps.append(gap)
    return gaps


def newest_noted(*stores: Origins) -> Origins:
    """The logs that the stores have noted; of two, the one with the larger base."""
    noted: dict[Partition, LogOrigin] = {}
    for origins in stores:
        for partition, origin in origins.items():
            if partition not in noted or origin.base > noted[partition].base:
                noted[partition] = origin
    return noted


def gap_of(
    partition: Partition, log: Log, sinks: Sequence[SinkPosition], *, current: LogOrigin
) -> Gap | None:
    """The gap of one partition, whose stored positions are those of `current`; None without one."""
    kinds = {s.sink: kind for s in sinks if (kind := _kind(log, current, s)) is not None}
    return Gap(partition=partition, log=log, kinds=kinds, sinks=sinks) if kinds else None


def current_origin(log: Log, sinks: Iterable[SinkPosition], noted: LogOrigin | None) -> LogOrigin:
    """The origin that stored positions in this log have: the newest one that was noted for it."""
    candidates = [noted, *(s.origin for s in sinks)]
    of_log = [o for o in candidates if o is not None and o.topic_id == log.topic_id]
    return max(of_log, key=lambda origin: origin.base, default=LogOrigin(topic_id=log.topic_id))


def raise_if_lost(gaps: Sequence[Gap]) -> None:
    """Raises PositionLost if there are any; the sentence names the first one."""
    if gaps:
        more = f"; {len(gaps) - 1} more partitions have gaps" if len(gaps) > 1 else ""
        raise PositionLost(f"{gaps[0]}{more}")


def _kind(log: Log, current: LogOrigin, sink: SinkPosition) -> str | None:
    if sink.position is None:
        return UNKNOWN
    if sink.origin is not None and sink.origin != current:
        return REPLACED
    offset = sink.position - current.base
    if offset < log.first:
        return EXPIRED
    return TRUNCATED if offset > log.end else None

"""Finds what the brokers have lost, and lets every sink go on after somebody has accepted it.

Nothing is skipped in silence: ingest and serving refuse to start while there is a gap. To accept
one means, in this order:

1. The offline store gets an entry that says what was lost, who accepted it and why.
2. The positions of the offline store move past the gap.
3. The online store is rebuilt from the offline one: it may hold events that no other sink has.
4. The positions of both groups move past the gap.

Each step may be repeated, so a command that was interrupted is run again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from features.definitions import EventType
from features.stores.group_positions import ReadWritten, group_positions_of
from features.stores.log_entries import origins_of
from features.stores.log_gaps import (
    DEAD_LETTERS,
    OFFLINE,
    ONLINE,
    Gap,
    SinkPosition,
    find_gaps,
    newest_noted,
)
from features.stores.ports import META, EventBatch, LogEntry, OfflineStore, OnlineStore
from infra.errors import EventideError
from infra.kafka.logs import CommittedPosition, Log, LogOrigin, Origins
from infra.kafka.partitions import Partition

Commit = Callable[[Mapping[Partition, tuple[int, LogOrigin]]], None]
"""Sets stored positions of a group, each with the origin of its log."""


class NoGap(EventideError):
    """Every sink can continue where it stands."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """A consumer group: what it has committed, what it wrote, and how to move it."""

    sink: str
    commits: Callable[[Sequence[Partition]], Mapping[Partition, CommittedPosition]]
    written: ReadWritten
    commit: Commit


@dataclass(frozen=True, kw_only=True)
class Sites:
    """Everything that keeps positions."""

    offline: OfflineStore
    online: OnlineStore
    ingest: Group
    serving: Group


def gaps(
    sites: Sites, read_logs: Callable[[], Mapping[Partition, Log]], *, requests: frozenset[str]
) -> list[Gap]:
    """What each sink has lost. `requests`: the topics that serving reads."""
    logs = read_logs()
    positions = positions_by_partition(sites, logs, requests=requests)
    # Other processes go on: what they have read since is beyond the ends that were read before.
    noted = noted_by(sites)
    return find_gaps(logs, positions, noted) and find_gaps(read_logs(), positions, noted)


def noted_by(sites: Sites) -> Origins:
    """The logs that the two stores have noted."""
    return newest_noted(origins_of(sites.offline.log_entries()), sites.online.origins())


def positions_by_partition(
    sites: Sites, logs: Mapping[Partition, Log], *, requests: frozenset[str]
) -> dict[Partition, list[SinkPosition]]:
    """Where each sink stands, by partition; sinks that were never anywhere are left out."""
    offline = sites.offline.positions({p.topic for p in logs})
    offline_noted = origins_of(sites.offline.log_entries())
    online, online_noted = sites.online.positions(), sites.online.origins()
    positions: dict[Partition, list[SinkPosition]] = {p: [] for p in logs}
    for partition, of_partition in positions.items():
        for sink, at, origins in (
            (OFFLINE, offline, offline_noted),
            (ONLINE, online, online_noted),
        ):
            if partition in at:
                position = SinkPosition(
                    sink=sink, position=at[partition], origin=origins.get(partition)
                )
                of_partition.append(position)
    noted = noted_by(sites)
    asked = {p: log for p, log in logs.items() if p.topic in requests}
    for group, of_group in ((sites.ingest, logs), (sites.serving, asked)):
        places = group_positions_of(
            group.sink,
            of_group,
            group.commits(list(of_group)),
            noted,
            written=group.written,
            sparse=group.sink == DEAD_LETTERS,
        )
        for partition, position in places.items():
            positions[partition].append(position)
    return positions


def accept(
    sites: Sites,
    lost: Sequence[Gap],
    *,
    events: Mapping[str, EventType],
    rebuild_online: Callable[[], object],
    by: str,
    reason: str,
    at_us: int,
) -> list[LogEntry]:
    """Record these gaps and move every sink past them; returns the entries.

    Raises:
        NoGap: there are none.
        StoreUnavailable, KafkaFailed: run it again.
    """
    if not lost:
        raise NoGap("there is no gap: every sink can continue where it stands")
    entries = []
    noted = noted_by(sites)
    for gap in lost:
        origin, accepted = gap.accepted(by=by, reason=reason, noted=noted.get(gap.partition))
        entries.append(
            LogEntry(
                topic=gap.partition.topic,
                partition=gap.partition.number,
                origin=origin,
                since_us=at_us,
                gap=accepted,
            )
        )
    sites.offline.add_log_entries(entries)
    for entry in entries:
        _move_offline(sites.offline, events[entry.topic], entry)
    rebuild_online()
    sites.online.set_origins({entry.place: entry.origin for entry in entries})
    for group in (sites.ingest, sites.serving):
        moved = {
            e.place: (e.gap.resume[group.sink], e.origin)
            for e in entries
            if e.gap is not None and group.sink in e.gap.resume
        }
        if moved:
            group.commit(moved)
    return entries


def accepted_gaps(offline: OfflineStore) -> list[LogEntry]:
    """Every gap that was accepted, in order."""
    return [entry for entry in offline.log_entries() if entry.gap is not None]


def _move_offline(offline: OfflineStore, event: EventType, entry: LogEntry) -> None:
    """Move the position of one partition past its gap; nothing happens the second time."""
    assert entry.gap is not None
    resume = entry.gap.resume.get(OFFLINE)
    stored = offline.positions([event.name]).get(entry.place)
    if resume is None or stored is None or stored >= resume:
        return
    nothing: dict[str, Sequence[Any]] = {name: [] for name in (*event.fields, *META)}
    offline.append(
        EventBatch(
            event=event,
            columns=nothing,
            starts={entry.place: stored},
            ends={entry.place: resume},
        )
    )

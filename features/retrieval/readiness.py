"""Whether the offline store holds all that was emitted before a cut-off.

No data is never good news: a source without a new event may be quiet, or not ingested.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from features.definitions import EventType, FeatureService, Label
from features.errors import HistoryTooShort, SourceNotReady
from features.retrieval.event_log import EventLog
from features.retrieval.field_sets import sources
from infra.clock import DAY, HOUR, MILLISECOND
from infra.kafka.partitions import Partition, Positions

if TYPE_CHECKING:
    import polars as pl

Ends = Callable[[Sequence[str], int], Positions | None]
"""(topics, time) -> for each partition of the topics the offset below which everything lies that
was emitted before the time, as far as the brokers know; None if no broker responds."""

READY_TOLERANCE_US = 6 * HOUR  # nights without a flight are shorter


def require_ready(
    event_log: EventLog,
    service: FeatureService,
    label: Label,
    *,
    cutoff_us: int,
    tolerance_us: int = READY_TOLERANCE_US,
    ends: Ends | None = None,
) -> None:
    """Pin the newest version of each table, if the tables are complete up to the cut-off.

    Some event has to be at most `tolerance_us` older than the cut-off. With `ends` the store has to
    have passed, in each partition of each event, what was emitted before the cut-off: a source that
    is quiet is ready when its end is reached. Without it nobody can say where a topic ends; then
    neither the source of the decisions nor that of the labels may be quiet for longer than the
    tolerance and a day.

    Raises:
        DataNotReady: the store is not complete; the sentence names the topic.
    """
    events = sources(service, label)
    # Positions before versions: what is read has at least the events below them.
    positions = event_log.store.positions([e.name for e in events])
    event_log.pin_newest(events)
    newest = {e.name: _newest_us(event_log, e) for e in events}
    until_us = (cutoff_us - tolerance_us) // MILLISECOND * MILLISECOND  # as precise as timestamps
    latest_us = max((t for t in newest.values() if t is not None), default=None)
    if latest_us is None or latest_us < until_us:
        raise HistoryTooShort(newest_us=latest_us, needed_until_us=until_us)
    known_ends = ends([e.name for e in events], cutoff_us) if ends else None
    if known_ends is None:
        own = (service.decision.source, label.source)
        _require_no_silence(event_log, events, own, newest, until_us)
    else:
        _require_passed(positions, known_ends, cutoff_us)


def _newest_us(event_log: EventLog, event: EventType) -> int | None:
    version = (event_log.versions or {}).get(event.name)
    return None if version is None else event_log.store.newest_known_at_us(event, version=version)


def _require_passed(positions: Positions, ends: Positions, cutoff_us: int) -> None:
    behind = sorted(p for p, end in ends.items() if positions.get(p, 0) < end)
    if behind:
        first: Partition = behind[0]
        raise SourceNotReady(
            topic=first.topic,
            partition=first.number,
            position=positions.get(first, 0),
            end=ends[first],
            cutoff_us=cutoff_us,
            others=len(behind) - 1,
        )


def _require_no_silence(
    event_log: EventLog,
    events: Sequence[EventType],
    own: Sequence[EventType],
    newest: Mapping[str, int | None],
    until_us: int,
) -> None:
    """A source may be quiet for a day more, such as a timetable of once a day; a source with less
    than a day of events only for as long as it has had any.

    One without any event has been quiet for as long as the store has events at all.
    """
    for event in own:
        newest_us = newest[event.name]
        since_us = _oldest_us(event_log, events) if newest_us is None else newest_us
        if since_us is None or since_us >= until_us:
            continue
        if until_us - since_us > _rhythm_us(event_log, event):
            raise HistoryTooShort(newest_us=newest_us, needed_until_us=until_us, event=event.name)


def _rhythm_us(event_log: EventLog, event: EventType) -> int:
    known_us = _known_at_us(event_log, event)
    first, last = known_us.min(), known_us.max()
    return min(DAY, int(last) - int(first)) if known_us.len() else 0  # type: ignore[arg-type]


def _oldest_us(event_log: EventLog, events: Sequence[EventType]) -> int | None:
    times: list[Any] = [_known_at_us(event_log, e).min() for e in events]
    return min((t for t in times if t is not None), default=None)


def _known_at_us(event_log: EventLog, event: EventType) -> pl.Series:
    version = (event_log.versions or {}).get(event.name)
    frame = event_log.store.read(event, columns=["known_at_us"], version=version)
    return frame["known_at_us"]

"""Keeps the offline store quick and small: one way for the command and the scheduler.

For each event: the files of closed days are put together, the log is summed up, and files that
nobody can ask for any more are deleted. It runs beside ingest; running it again changes nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

import stamina

from features.definitions import EventType
from features.errors import WriteConflict
from features.stores.ports import OfflineMaintenance, OfflineStore
from infra.clock import DAY, to_us
from infra.process.progress import StatusCallback

ATTEMPTS = 8
DAYS_A_CHECKPOINT = 16  # each day opens the table: a first run over a year would read a long log


@dataclass(frozen=True, kw_only=True)
class MaintenanceResult:
    """What was done to an event's table."""

    event: str
    days: int  # whose files were put together
    files_before: int
    files_after: int
    deleted: int  # files that nobody could ask for any more
    pinned: int  # versions that were kept


@dataclass(frozen=True, kw_only=True)
class CompactionRules:
    """When a day is closed, and for how long a file outlives its removal from the table."""

    closed_after_us: int
    retention_hours: int


def maintain(
    events: Sequence[EventType],
    store: OfflineStore,
    upkeep: OfflineMaintenance,
    *,
    rules: CompactionRules,
    on_progress: StatusCallback,
) -> list[MaintenanceResult]:
    """Do it for every event that has a table; `on_progress` is told what is being done.

    Raises:
        StoreUnavailable: what was done until then stays done.
        WriteConflict: another upkeep works on the same tables, again and again.
    """
    return [
        _maintain(event, store, upkeep, rules, on_progress)
        for event in events
        if upkeep.files(event)
    ]


def closed_days(
    days: Iterable[date], *, newest_known_at_us: int, closed_after_us: int
) -> list[date]:
    """The days that ended at least `closed_after_us` before the newest event was emitted: by the
    clock of the data, for the days of a replay are long past by any other."""
    limit_us = newest_known_at_us - closed_after_us - DAY
    return sorted(day for day in days if to_us(day) <= limit_us)


def _maintain(
    event: EventType,
    store: OfflineStore,
    upkeep: OfflineMaintenance,
    rules: CompactionRules,
    on_progress: StatusCallback,
) -> MaintenanceResult:
    before = upkeep.files(event)
    days = closed_days(
        upkeep.days_to_compact(event),
        newest_known_at_us=store.newest_known_at_us(event) or 0,
        closed_after_us=rules.closed_after_us,
    )
    for n, day in enumerate(days, start=1):
        on_progress(f"{event.name}: files of {day}, {n} of {len(days)} days")
        _compact(event, upkeep, day)
        if n % DAYS_A_CHECKPOINT == 0:
            upkeep.checkpoint(event)
    on_progress(f"{event.name}: checkpoint")
    upkeep.checkpoint(event)
    on_progress(f"{event.name}: vacuum")
    pinned = {pin.version for pin in store.pins() if pin.event == event.name}
    deleted = upkeep.vacuum(event, retention_hours=rules.retention_hours, keep=pinned)
    return MaintenanceResult(
        event=event.name,
        days=len(days),
        files_before=before,
        files_after=upkeep.files(event),
        deleted=deleted,
        pinned=len(pinned),
    )


def _compact(event: EventType, upkeep: OfflineMaintenance, day: date) -> None:
    """Whoever comes second tries again: that is the upkeep, never ingest."""
    for attempt in stamina.retry_context(on=WriteConflict, attempts=ATTEMPTS):
        with attempt:
            upkeep.compact(event, day)

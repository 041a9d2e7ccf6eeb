"""Maintenance of the offline store, for the command and the scheduler.

For each event: the files of closed days are merged, a checkpoint of the log is written, and files
that no version needs any more are deleted. It runs beside ingest. Running it again changes nothing.
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
    """The result of the maintenance of one table."""

    event: str
    days: int  # whose files were merged
    files_before: int
    files_after: int
    deleted: int  # files that no readable version needs
    pinned: int  # versions that stay readable


@dataclass(frozen=True, kw_only=True)
class CompactionRules:
    """When a day is closed, and for how long files that left the table are not deleted."""

    closed_after_us: int
    retention_hours: int


def maintain(
    events: Sequence[EventType],
    store: OfflineStore,
    maintenance: OfflineMaintenance,
    *,
    rules: CompactionRules,
    on_progress: StatusCallback,
) -> list[MaintenanceResult]:
    """Maintain the table of every event that has one.

    Raises:
        StoreUnavailable: what was done until then stays done.
        WriteConflict: another process keeps compacting the same tables.
    """
    return [
        _maintain(event, store, maintenance, rules, on_progress)
        for event in events
        if maintenance.files(event)
    ]


def closed_days(
    days: Iterable[date], *, newest_known_at_us: int, closed_after_us: int
) -> list[date]:
    """The days that ended at least `closed_after_us` before the newest event was emitted.

    That is the clock of the data: by any other, all days of a replay are long past.
    """
    limit_us = newest_known_at_us - closed_after_us - DAY
    return sorted(day for day in days if to_us(day) <= limit_us)


def _maintain(
    event: EventType,
    store: OfflineStore,
    maintenance: OfflineMaintenance,
    rules: CompactionRules,
    on_progress: StatusCallback,
) -> MaintenanceResult:
    before = maintenance.files(event)
    days = closed_days(
        maintenance.days_to_compact(event),
        newest_known_at_us=store.newest_known_at_us(event) or 0,
        closed_after_us=rules.closed_after_us,
    )
    for n, day in enumerate(days, start=1):
        on_progress(f"{event.name}: files of {day}, {n} of {len(days)} days")
        _compact(event, maintenance, day)
        if n % DAYS_A_CHECKPOINT == 0:
            maintenance.checkpoint(event)
    on_progress(f"{event.name}: checkpoint")
    maintenance.checkpoint(event)
    on_progress(f"{event.name}: vacuum")
    pinned = {pin.version for pin in store.pins() if pin.event == event.name}
    deleted = maintenance.vacuum(event, retention_hours=rules.retention_hours, keep=pinned)
    return MaintenanceResult(
        event=event.name,
        days=len(days),
        files_before=before,
        files_after=maintenance.files(event),
        deleted=deleted,
        pinned=len(pinned),
    )


def _compact(event: EventType, maintenance: OfflineMaintenance, day: date) -> None:
    """Compact a day, with a retry after a conflict: ingest never waits for maintenance."""
    for attempt in stamina.retry_context(on=WriteConflict, attempts=ATTEMPTS):
        with attempt:
            maintenance.compact(event, day)

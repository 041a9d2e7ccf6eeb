"""Rules about the entries that say from which logs the positions of a store are."""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from features.stores.ports import LogEntry
from infra.kafka.logs import Origins
from infra.kafka.partitions import Partition


def numbered(entries: Sequence[LogEntry], *, after: Sequence[LogEntry]) -> list[LogEntry]:
    """The entries with the numbers that follow."""
    last = max((entry.number for entry in after), default=0)
    return [replace(entry, number=n) for n, entry in enumerate(entries, last + 1)]


def newest_entries(entries: Iterable[LogEntry]) -> dict[Partition, LogEntry]:
    """The entry that holds, for each partition."""
    return {entry.place: entry for entry in sorted(entries, key=lambda e: e.number)}


def origins_of(entries: Iterable[LogEntry]) -> Origins:
    """The logs that the positions belong to, by their entries."""
    return {partition: entry.origin for partition, entry in newest_entries(entries).items()}

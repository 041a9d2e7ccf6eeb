"""Recordings: files of real events of the past, and the sources that they are built from.

A built recording is one Parquet file with a row for each event, in the order of emission:
`known_at_us` (when the source emitted it), `event` (its type's name), `event_id`, `key` and
`payload`, the bytes that go to Kafka. `features/catalog/<domain>/recording.py` declares it as
`RECORDING`; `emitted` makes its rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from features.definitions.declaration import Declaration
from features.definitions.events import EventType
from features.definitions.validation import require

if TYPE_CHECKING:
    import polars as pl

COLUMNS = ("known_at_us", "event", "event_id", "key", "payload")


@dataclass(frozen=True, kw_only=True)
class Source(Declaration):
    """A source distribution on the Python package index whose files are the raw data."""

    package: str
    version: str
    sha256: str
    licence: str

    def __post_init__(self) -> None:
        who = f"source {self.package}"
        is_hash = re.fullmatch("[0-9a-f]{64}", self.sha256) is not None
        require(is_hash, f"{who}: its sha256 has 64 digits from 0 to f")
        for name in ("package", "version"):
            plain = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", getattr(self, name)) is not None
            require(plain, f"{who}: {name} {getattr(self, name)!r} is none of a registry")

    @property
    def file_name(self) -> str:
        """What the distribution's file is called."""
        return f"{self.package}-{self.version}.tar.gz"


@dataclass(frozen=True, kw_only=True)
class Recording(Declaration):
    """Where the raw data come from and how they become events; `frame` gives `COLUMNS`."""

    name: str
    source: Source
    frame: Callable[[Path], pl.DataFrame]


def emitted(tables: Iterable[tuple[EventType, pl.DataFrame]]) -> pl.DataFrame:
    """Tables of events as the rows of a recording, in the order of emission.

    A table has the fields of its event and `known_at_us`. Ties on `known_at_us` are broken by the
    order of the tables, then by the event id, so that the order never changes.
    """
    import polars as pl

    parts = [_encoded(event, table, rank) for rank, (event, table) in enumerate(tables)]
    return pl.concat(parts).sort("known_at_us", "rank", "event_id").select(COLUMNS)


def _encoded(event: EventType, table: pl.DataFrame, rank: int) -> pl.DataFrame:
    """The rows of one type, each with the JSON that goes to Kafka."""
    import polars as pl

    return table.select(
        "known_at_us",
        event=pl.lit(event.name),
        event_id="event_id",
        key=event.key,
        payload=pl.struct(*event.fields).struct.json_encode().cast(pl.Binary),
        rank=pl.lit(rank),
    )

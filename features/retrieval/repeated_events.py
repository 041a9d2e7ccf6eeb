"""Which stored events are duplicates, whatever event times their copies have.

A copy may have any event time, so the rows of a span of event times do not show whether an event
was seen before. But few events are ever sent again: their hashes are found first, in blocks, and
only the events with these hashes are compared.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from features.engine.deduplication import first_sightings

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from features.definitions import BoolArray, EventType, Int64Array
    from features.stores.ports import OfflineStore

ROWS_AT_ONCE = 500_000  # of a few columns, where all of a table is read in blocks
IDS_AT_ONCE = 1_000_000  # that several events have: where a source sends everything twice
_OFFSET_BITS = 44
"""Of a place as one number: 2^44 offsets, half a million partitions."""


def duplicates(
    store: OfflineStore,
    event: EventType,
    *,
    horizon_us: int,
    version: int | None = None,
    known_from_us: int | None = None,
) -> Int64Array:
    """The places (see `places`) of all duplicates known at `known_from_us` or later, sorted.

    Memory: eight bytes an event, and a block of ids. A table without copies is read once.
    """
    earliest = None if known_from_us is None else known_from_us - horizon_us
    repeated = _repeated_hashes(store, event, version, earliest)
    duplicated = [np.empty(0, np.int64)]
    for first in range(0, len(repeated), IDS_AT_ONCE):
        # Of these every sighting counts: an earlier one may have been emitted at any time.
        suspects = _with_hashes(store, event, version, repeated[first : first + IDS_AT_ONCE])
        duplicated.append(_duplicates_among(suspects, horizon_us))
    return np.sort(np.concatenate(duplicated))


def places(frame: pl.DataFrame) -> Int64Array:
    """Partition and offset of each row as one number."""
    partition, offset = frame["partition"].to_numpy(), frame["offset"].to_numpy()
    of_rows: Int64Array = (partition << _OFFSET_BITS) | offset
    return of_rows


def is_first(frame: pl.DataFrame, duplicate_places: Int64Array) -> BoolArray:
    """Which rows are no duplicates; `duplicate_places` are sorted."""
    if not len(duplicate_places):
        return np.ones(frame.height, bool)
    own = places(frame)
    at = np.searchsorted(duplicate_places, own)
    is_other: BoolArray = duplicate_places[np.minimum(at, len(duplicate_places) - 1)] != own
    return is_other


def time_blocks(
    store: OfflineStore,
    event: EventType,
    *,
    version: int | None,
    from_us: int | None = None,
    until_us: int | None = None,
    known_from_us: int | None = None,
) -> list[tuple[int, int]]:
    """Consecutive spans of event time with about `ROWS_AT_ONCE` events each; none without any."""
    times = store.read(
        event,
        columns=("event_time_us",),
        event_from_us=from_us,
        event_until_us=until_us,
        known_from_us=known_from_us,
        version=version,
    )["event_time_us"].sort()
    if times.is_empty():
        return []
    edges = [*times.gather_every(ROWS_AT_ONCE).unique().sort(), int(times[-1]) + 1]
    return list(pairwise(edges))


def _repeated_hashes(
    store: OfflineStore, event: EventType, version: int | None, known_from_us: int | None
) -> Int64Array:
    """Hashes of ids that several events have, and of few others."""
    hashes = [
        ids["event_id"].hash().to_numpy()
        for ids in _id_blocks(store, event, version, ("event_id",), known_from_us)
    ]
    if not hashes:
        return np.empty(0, np.int64)
    ordered = np.concatenate(hashes)
    ordered.sort()
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])


def _with_hashes(
    store: OfflineStore, event: EventType, version: int | None, hashes: Int64Array
) -> pl.DataFrame:
    """Id, place and time of every event whose id has one of these hashes."""
    import polars as pl

    columns = ("event_id", "partition", "offset", "known_at_us")
    return pl.concat(
        [
            ids.filter(np.isin(ids["event_id"].hash().to_numpy(), hashes))
            for ids in _id_blocks(store, event, version, columns, None)
        ]
    )


def _duplicates_among(sightings: pl.DataFrame, horizon_us: int) -> Int64Array:
    first = first_sightings(
        ids=_codes(sightings["event_id"]),
        partitions=sightings["partition"].to_numpy(),
        offsets=sightings["offset"].to_numpy(),
        known_at_us=sightings["known_at_us"].to_numpy(),
        horizon_us=horizon_us,
    )
    return places(sightings)[~first]


def _id_blocks(
    store: OfflineStore,
    event: EventType,
    version: int | None,
    columns: tuple[str, ...],
    known_from_us: int | None,
) -> Iterator[pl.DataFrame]:
    for first, last in time_blocks(store, event, version=version, known_from_us=known_from_us):
        yield store.read(
            event,
            columns=columns,
            event_from_us=first,
            event_until_us=last,
            known_from_us=known_from_us,
            version=version,
        )


def _codes(texts: pl.Series) -> Int64Array:
    import polars as pl

    codes: Int64Array = texts.cast(pl.Categorical).to_physical().to_numpy().astype(np.int64)
    return codes

"""Reads events from the offline store: without duplicates, at pinned versions, as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from features.definitions import Check, Columns, Entity, EventType, Int64Array
from features.engine.checks import nullified_rows, required_fields, violations
from features.engine.columns import dtype_of, kinds
from features.errors import CheckFailed
from features.retrieval.field_sets import distinct
from features.retrieval.manifest import TableUse
from features.retrieval.repeated_events import duplicates, is_first, time_blocks
from features.stores.ports import OfflineStore
from infra.clock import DAY, HOUR

if TYPE_CHECKING:
    import polars as pl

DUPLICATE_HORIZON_US = 48 * HOUR
FURTHER_BACK_US = 7 * DAY  # views of an event read further back than its decisions, read first
_PLACE = ("event_time_us", "known_at_us", "partition", "offset")


class Events(Protocol):
    """Where the computation of a view reads its events."""

    def events(
        self,
        event: EventType,
        fields: Sequence[str],
        *,
        from_us: int | None = None,
        until_us: int | None = None,
        known_from_us: int | None = None,
    ) -> pl.DataFrame:
        """Events with `from_us <= event_time < until_us` that were known at `known_from_us` or
        later, without duplicates: times and fields."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Duplicates:
    """The `places` of the duplicates of a version that were known at `known_from_us` or later."""

    version: int | None
    known_from_us: int
    places: Int64Array


@dataclass
class EventLog:
    """Events of the offline store at pinned versions, each one once; `used` is what was read.

    Events that were known at `known_before_us` or later do not exist, if it is given.
    """

    store: OfflineStore
    versions: Mapping[str, int] | None = None
    horizon_us: int = DUPLICATE_HORIZON_US
    known_before_us: int | None = None
    used: dict[str, TableUse] = field(default_factory=dict)
    _duplicates: dict[str, _Duplicates] = field(default_factory=dict)

    def pin_newest(self, events: Sequence[EventType]) -> None:
        """Read the newest version of each table from now on, or the one that is given."""
        newest = {e.name: self.store.version(e) for e in events}
        self.versions = {
            **{n: v for n, v in newest.items() if v is not None},
            **(self.versions or {}),
        }

    def events(
        self,
        event: EventType,
        fields: Sequence[str],
        *,
        from_us: int | None = None,
        until_us: int | None = None,
        known_from_us: int | None = None,
    ) -> pl.DataFrame:
        """Events with `from_us <= event_time < until_us` that were known at `known_from_us` or
        later, without duplicates: times, partition, offset and the fields, which are null where a
        check nullifies them."""
        version = (self.versions or {}).get(event.name)
        stops = event.checks_with("stop")
        of_checks = ("event_id", *(f for check in stops for f in check.reads)) if stops else ()
        needed = required_fields(event, fields)
        columns = distinct(_PLACE, needed, of_checks)
        frame = self.store.read(
            event,
            columns=columns,
            event_from_us=from_us,
            event_until_us=until_us,
            known_from_us=known_from_us,
            version=version,
        )
        counts = is_first(frame, self._duplicates_in(event, version, frame))
        if self.known_before_us is not None:
            counts &= frame["known_at_us"].to_numpy() < self.known_before_us
        if not counts.all():
            frame = frame.filter(counts)
        for check in stops:
            _stop_unless(check, event, frame)
        self._note(event, version, frame)
        frame = nullified_frame(event, frame, needed)
        return frame if "event_id" in fields or not stops else frame.drop("event_id")

    def blocks(
        self, event: EventType, *, from_us: int | None = None, until_us: int
    ) -> list[tuple[int, int]]:
        """Consecutive spans of event time with about half a million events each.

        They cover all events, so a caller can read a table without having all of it in memory.
        """
        version = (self.versions or {}).get(event.name)
        return time_blocks(self.store, event, version=version, from_us=from_us, until_us=until_us)

    def _duplicates_in(
        self, event: EventType, version: int | None, frame: pl.DataFrame
    ) -> Int64Array:
        """The duplicates among the events of a frame, and others; found once a version."""
        if frame.is_empty():
            return np.empty(0, np.int64)
        needed_from_us = int(frame["known_at_us"].to_numpy().min())
        current = self.store.version(event) if version is None else version
        found = self._duplicates.get(event.name)
        if found is None or found.version != current or needed_from_us < found.known_from_us:
            known_from_us = needed_from_us - FURTHER_BACK_US
            found = self._duplicates[event.name] = _Duplicates(
                version=current,
                known_from_us=known_from_us,
                places=duplicates(
                    self.store,
                    event,
                    horizon_us=self.horizon_us,
                    version=version,
                    known_from_us=known_from_us,
                ),
            )
        return found.places

    def _note(self, event: EventType, version: int | None, frame: pl.DataFrame) -> None:
        import polars as pl

        spans = frame.group_by("partition").agg(
            pl.col("offset").min().alias("first"), pl.col("offset").max().alias("last")
        )
        before = self.used.get(event.name)
        offsets = dict(before.offsets) if before else {}
        for partition, first, last in sorted(spans.iter_rows()):
            key = f"{event.name}-{partition}"
            low, high = offsets.get(key, (first, last))
            offsets[key] = (min(low, first), max(high, last))
        self.used[event.name] = TableUse(
            delta_version=before.delta_version if before else version,
            # Several views read one table.
            rows_read=max(before.rows_read if before else 0, frame.height),
            offsets=offsets,
        )


def nullified_frame(
    event: EventType, frame: pl.DataFrame, fields: Sequence[str], *, of: EventType | None = None
) -> pl.DataFrame:
    """The events, with null in place of the values of `fields` that fail a check of `event` with
    `nullify`.

    The frame has the `required_fields` of these. `of`: whose events they are, if not of `event`.
    """
    import polars as pl

    wrong = nullified_rows(event, fields, partial(arrays_in, of or event, frame))
    return frame.with_columns(
        pl.when(pl.Series(~rows)).then(pl.col(field)).alias(field) for field, rows in wrong
    )


def arrays_in(event: EventType, frame: pl.DataFrame, fields: Sequence[str]) -> Columns:
    """The arrays that formulas are given, of the same types as in ingest and serving.

    A field that only a check makes null is float64 with NaN, too, where there is a null.
    """
    return _Arrays(event, frame, fields)


def exact_arrays_in(event: EventType, frame: pl.DataFrame, fields: Sequence[str]) -> Columns:
    """The arrays that the engine computes with; see `exact_array_of`."""
    return _Arrays(event, frame, fields, exact=True)


class _Arrays(Mapping[str, NDArray[Any]]):
    """Each array is built when it is read: those of a large history do not all fit into memory."""

    def __init__(
        self, event: EventType, frame: pl.DataFrame, fields: Sequence[str], *, exact: bool = False
    ) -> None:
        self._kinds, self._frame, self._fields = kinds(event.record), frame, fields
        self._exact = exact

    def __getitem__(self, name: str) -> NDArray[Any]:
        import polars as pl

        kind, column = self._kinds[name], self._frame[name]
        if kind == "int" and column.null_count():
            kind = "nullable_int"
        if kind == "nullable_int" and self._exact:
            known = column.fill_null(0).to_numpy().astype(np.int64, copy=False)
            return np.ma.MaskedArray(known, mask=column.is_null().to_numpy())
        if kind in ("nullable_int", "float"):
            column = column.cast(pl.Float64)
            if column.null_count():
                column = column.fill_null(float("nan"))
        return column.to_numpy().astype(dtype_of(kind), copy=False)

    def __contains__(self, name: object) -> bool:
        return name in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


def entity_codes(entity: Entity, frames: Sequence[pl.DataFrame]) -> list[Int64Array]:
    """A code for the entity of each row, the same in all frames.

    The first frame has the queries, the others have events. A null key is -1 in the others, and in
    the first frame a code that no event has.
    """
    import polars as pl

    codes: Int64Array | None = None
    for name in entity.keys:
        key = pl.concat([frame.select(pl.col(name).cast(pl.String).alias("k")) for frame in frames])
        of_key = key["k"].cast(pl.Categorical).to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
        codes = of_key if codes is None else _codes_of_pairs(codes, of_key)
    assert codes is not None  # an entity has a key
    queries, *events = np.split(codes, np.cumsum([frame.height for frame in frames])[:-1])
    return [np.where(queries < 0, codes.max(initial=0) + 1, queries), *events]


def _stop_unless(check: Check, event: EventType, frame: pl.DataFrame) -> None:
    bad = violations(check, arrays_in(event, frame, check.reads))
    if bad.any():
        example = frame["event_id"][int(bad.argmax())]
        raise CheckFailed(
            event=event.name, check=check.name, events=int(bad.sum()), example=example
        )


def _codes_of_pairs(first: Int64Array, second: Int64Array) -> Int64Array:
    """A code for each pair of codes, from 0 without gaps; -1 where one of them is."""
    null = (first < 0) | (second < 0)
    pairs = np.where(null, 0, first * (second.max(initial=0) + 1) + second)
    if pairs.max(initial=0) < 4 * len(pairs):  # few possible pairs: they are counted out
        occurs = np.zeros(pairs.max(initial=0) + 1, bool)
        occurs[pairs] = True
        codes = (np.cumsum(occurs) - 1)[pairs]
    else:
        codes = np.unique(pairs, return_inverse=True)[1]
    return np.where(null, -1, codes)

"""Frames of events as the arrays that formulas and the engine are given, and entities as codes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from features.definitions import Columns, Entity, EventType, Int64Array
from features.engine.checks import nullified_rows
from features.engine.columns import dtype_of, kinds

if TYPE_CHECKING:
    import polars as pl


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

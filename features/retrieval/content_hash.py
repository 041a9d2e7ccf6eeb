"""A hash of the values in a frame, which does not depend on how they are stored or split."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import polars as pl


def content_sha256(frame: pl.DataFrame) -> str:
    """The hash of column names, types and every value, in the frame's order of rows."""
    digest = ContentDigest()
    digest.add(frame)
    return digest.hexdigest()


class ContentDigest:
    """`content_sha256` of a frame that comes in pieces: where it is split makes no difference.

    Each column has two hashes: of the lengths of its values (for numbers: whether there is one) and
    of the values. So the end of one value cannot be mistaken for the start of the next.
    """

    def __init__(self) -> None:
        self._schema: dict[str, str] | None = None
        self._columns: list[tuple[Any, Any]] = []
        self._rows = 0

    def add(self, frame: pl.DataFrame) -> None:
        """The next rows; every piece has the same columns."""
        schema = {name: str(dtype) for name, dtype in frame.schema.items()}
        if self._schema is None:
            self._schema = schema
            self._columns = [(hashlib.sha256(), hashlib.sha256()) for _ in schema]
        if schema != self._schema:
            raise ValueError("pieces of one table differ in their columns")
        self._rows += frame.height
        for column, (lengths, values) in zip(frame.iter_columns(), self._columns, strict=True):
            length_bytes, value_bytes = _bytes(column)
            lengths.update(length_bytes)
            values.update(value_bytes)

    def hexdigest(self) -> str:
        """The hash of all rows so far."""
        digest = hashlib.sha256(f"{self._rows}\0".encode())
        for (name, dtype), parts in zip((self._schema or {}).items(), self._columns, strict=True):
            digest.update(f"{name}:{dtype}\0".encode())
            for part in parts:
                digest.update(part.digest())
        return digest.hexdigest()


def _bytes(column: pl.Series) -> tuple[bytes, bytes]:
    """Lengths and values. A null among floats counts as NaN, and all NaN are equal."""
    import polars as pl

    if column.dtype.is_float():
        numbers = column.to_numpy()
        return b"", np.where(np.isnan(numbers), np.nan, numbers).tobytes()
    if column.dtype == pl.String:
        lengths = column.str.len_bytes().cast(pl.Int64).fill_null(-1).to_numpy()
        return lengths.tobytes(), "".join(column.drop_nulls().to_list()).encode()
    whole = column.cast(pl.Int64)
    return whole.is_not_null().to_numpy().tobytes(), whole.fill_null(0).to_numpy().tobytes()

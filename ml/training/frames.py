"""Frames as scikit-learn is given them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import polars as pl


def to_pandas(rows: pl.DataFrame, columns: Sequence[str]) -> Any:
    """The columns, texts as objects and numbers as float64."""
    return _frame(columns, rows.get_column)


def read_pandas(file: Path, columns: Sequence[str]) -> Any:
    """The same from a Parquet file. It is read column by column, so that nothing is held twice."""
    import polars as pl

    return _frame(columns, lambda c: pl.read_parquet(file, columns=[c]).get_column(c))


def _frame(columns: Sequence[str], read: Callable[[str], pl.Series]) -> Any:
    import pandas as pd

    return pd.DataFrame({c: _series(read(c)) for c in columns}, copy=False)


def _series(column: pl.Series) -> Any:
    import pandas as pd
    import polars as pl

    if column.dtype == pl.String:
        return pd.Series(_texts(column), dtype=object, copy=False)
    # Memory of numpy goes back to the system as soon as it is free; that of polars does not.
    return pd.Series(np.array(column.to_numpy(), dtype=np.float64), copy=False)


def _texts(column: pl.Series) -> Any:
    """One object for each distinct text and not for each row: categories have few."""
    encoded = column.to_arrow().dictionary_encode(null_encoding="encode")
    distinct = np.array(encoded.dictionary.to_pylist(), dtype=object)
    return distinct[encoded.indices.to_numpy()]

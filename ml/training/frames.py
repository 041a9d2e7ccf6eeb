"""Frames as scikit-learn is given them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import polars as pl


def to_pandas(rows: pl.DataFrame, columns: Sequence[str]) -> Any:
    """The columns, texts as objects and numbers as float64."""
    import pandas as pd

    return pd.DataFrame({c: pd.Series(*_values(rows[c])) for c in columns})


def _values(column: pl.Series) -> tuple[Any, Any, Any]:
    """What `pandas.Series` takes: values, index, type."""
    import polars as pl

    if column.dtype == pl.String:
        return column.to_list(), None, object
    return column.to_numpy(), None, np.float64

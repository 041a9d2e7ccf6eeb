"""The model columns that come from the request itself: the same online and in history."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from features.definitions import Columns, FeatureService, Float64Array


@dataclass(frozen=True, kw_only=True)
class RequestValues:
    """`categories` by name, "" for null; `numbers` is (n, numbers), NaN for null."""

    categories: dict[str, list[str]]
    numbers: Float64Array


def request_values(service: FeatureService, columns: Columns, n: int) -> RequestValues:
    """The values of the service's request columns for `n` requests or decisions."""
    categories: dict[str, list[str]] = {}
    numbers: list[Float64Array] = []
    for column in service.request_columns:
        values = column.compute(columns)
        if column.category:
            categories[column.name] = list(map(_category, values.tolist()))
        else:
            numbers.append(np.asarray(values, np.float64))
    table = np.column_stack(numbers) if numbers else np.empty((n, 0))
    return RequestValues(categories=categories, numbers=table)


def _category(value: Any) -> str:
    is_missing = value is None or (isinstance(value, float) and math.isnan(value))
    return "" if is_missing else str(value)

"""The model columns that come from the request itself: the same online and in history."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from features.definitions import Columns, FeatureService, Float64Array, RequestColumn
from features.engine.formulas import CATEGORIES, numbers_or_null, request_values_or_null


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
        formula = f"service {service.name}: request column {column.name!r}"
        compute = partial(_compute, column, columns)
        if column.category:
            values, failed = request_values_or_null(formula, compute, n, kinds=CATEGORIES)
            texts = ["" if v is None else str(v) for v in values.tolist()]
            categories[column.name] = [
                "" if none else text for text, none in zip(texts, failed.tolist(), strict=True)
            ]
        else:
            numbers.append(numbers_or_null(formula, compute, n))
    table = np.column_stack(numbers) if numbers else np.empty((n, 0))
    return RequestValues(categories=categories, numbers=table)


def _compute(column: RequestColumn, columns: Columns, part: slice) -> Any:
    return column.compute({field: columns[field][part] for field in column.reads})

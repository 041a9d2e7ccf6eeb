"""The model columns that come from the request itself: the same online and in history."""

from dataclasses import dataclass

import numpy as np

from features.definitions import Columns, FeatureService, Float64Array, Int64Array
from features.definitions.lifecycle_views import AS_OF


@dataclass(frozen=True, kw_only=True)
class RequestValues:
    """`categories` by name, "" for null; `numbers` is (n, numbers), NaN for null."""

    categories: dict[str, list[str]]
    numbers: Float64Array


def request_values(
    service: FeatureService, columns: Columns, as_of_us: Int64Array
) -> RequestValues:
    """The values of the service's request columns for requests or decisions at these times."""
    n = len(as_of_us)
    columns = {**columns, AS_OF: as_of_us}
    categories: dict[str, list[str]] = {}
    numbers: list[Float64Array] = []
    for column in service.request_columns:
        values = column.compute(columns)
        if column.category:
            categories[column.name] = ["" if v is None else str(v) for v in values.tolist()]
        else:
            numbers.append(np.asarray(values, np.float64))
    table = np.column_stack(numbers) if numbers else np.empty((n, 0))
    return RequestValues(categories=categories, numbers=table)

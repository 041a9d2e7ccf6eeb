"""The model columns that come from the request itself: the same online and in history."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.definitions import (
    Columns,
    FeatureService,
    Float64Array,
    Int64Array,
    RequestColumn,
)
from features.definitions.lifecycle_views import AS_OF
from features.engine.checks import nullifiable_fields
from features.engine.formulas import FAILURES, Formula, floats


@dataclass(frozen=True, kw_only=True)
class RequestValues:
    """`categories` by name, "" for null; `numbers` is (n, numbers), NaN for null."""

    categories: dict[str, list[str]]
    numbers: Float64Array


def request_values(
    service: FeatureService, columns: Columns, as_of_us: Int64Array
) -> RequestValues:
    """The values of the service's request columns for requests or decisions at these times.

    `columns`: the engine's arrays of the fields that they read.
    """
    n = len(as_of_us)
    columns = {**columns, AS_OF: as_of_us}
    categories: dict[str, list[str]] = {}
    numbers: list[Float64Array] = []
    for column in service.request_columns:
        formula = _formula(service, column)
        outcome = formula.values(columns, n)
        if column.category:
            categories[column.name] = category_texts(outcome.values, name=formula.name)
        else:
            numbers.append(floats(outcome, name=formula.name))
    table = np.column_stack(numbers) if numbers else np.empty((n, 0))
    return RequestValues(categories=categories, numbers=table)


def _formula(service: FeatureService, column: RequestColumn) -> Formula:
    decision = service.decision
    nullifiable = nullifiable_fields(decision.checked_as, decision.request.record)
    return Formula(
        name=f"{service.name}.{column.name}",
        compute=column.compute,
        reads=column.reads,
        strict=[field for field in column.reads if field in nullifiable],
    )


def category_texts(values: NDArray[Any], *, name: str) -> list[str]:
    """A category is a text: whole numbers with all their digits, "" for null and for NaN, and for
    what is neither text nor number, which is counted."""
    plain: Sequence[Any] = values.tolist()
    strange = [v is not None and not isinstance(v, str | int | float | np.generic) for v in plain]
    FAILURES.add((name, "neither text nor number"), sum(strange))
    missing = [s or v is None or v != v for v, s in zip(plain, strange, strict=True)]  # noqa: PLR0124  # NaN
    return ["" if m else str(v) for v, m in zip(plain, missing, strict=True)]

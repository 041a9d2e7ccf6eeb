"""Every operation is declared in one place, and the engine can compute every one of them."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, get_args

import numpy as np
import pytest

from features.definitions import Aggregation, Column, FeatureView
from features.definitions.operations import (
    OPERATIONS,
    Operation,
    OperationName,
    StateColumnKind,
    SumOperation,
)
from features.engine.queries import PointInTimeQueries
from features.engine.state_columns import StateColumn
from features.engine.view_states import state_of
from features.errors import DeclarationError
from infra.clock import SECOND
from tests.support.data.orders import CALENDAR, CENTS, PLACED, SHOP, START_US

MINUTE = timedelta(minutes=1)
EACH = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda o: o.name)
EXPECTED = {  # of the two prices 4 and 2, ten seconds apart, 20 seconds after the second one
    "count": 2,
    "sum": 6,
    "mean": 3,
    "rate": 3,
    "min": 2,
    "max": 4,
    "first": 4,
    "last": 2,
    "change": -2,
    "distinct": 2,
    "since_first": 0.5,
    "since_last": 20 / 60,
}


def test_type_checkers_know_every_operation_and_no_other() -> None:
    assert set(get_args(OperationName)) == set(OPERATIONS) == set(EXPECTED)


@EACH
def test_the_engine_computes_every_operation_over_a_window(operation: Operation) -> None:
    assert value_of(operation) == EXPECTED[operation.name]


@EACH
def test_an_empty_window_gives_the_declared_empty_value(operation: Operation) -> None:
    empty = value_of(operation, as_of_s=-1)
    assert empty == 0 if operation.if_empty.startswith("0") else np.isnan(empty)


@EACH
def test_only_sums_are_possible_over_calendar_spans(operation: Operation) -> None:
    aggregations = (an_aggregation(operation),)
    if isinstance(operation, SumOperation):
        state_of(replace(CALENDAR, aggregations=aggregations))
    else:
        with pytest.raises(DeclarationError, match="there are count, sum, mean and rate, and no"):
            replace(CALENDAR, aggregations=aggregations)


def test_every_kind_of_state_column_is_combined_or_a_code() -> None:
    column = Column(name="c", compute=lambda e: e["cents"], reads=("cents",))
    for kind in get_args(StateColumnKind):
        assert (StateColumn(kind, "c", column).combine is None) == (kind == "code")


@pytest.mark.parametrize(
    ("name", "hint"),
    [("avg_", None), ("means", "did you mean 'mean'?"), ("lastt", "did you mean 'last'?")],
)
def test_an_unknown_operation_is_refused_with_a_list_of_the_known(
    name: Any, hint: str | None
) -> None:
    mistake = f"operation is '{name}', not one of count, sum, mean"
    with pytest.raises(DeclarationError, match=mistake) as error:
        Aggregation(operation=name, column="cents")
    assert __file__ in str(error.value)
    assert error.value.hint == hint


def an_aggregation(operation: Operation, **windows: Any) -> Aggregation:
    column = "price" if operation.takes_column else None
    return Aggregation(operation=operation.name, column=column, **windows)


def value_of(operation: Operation, *, as_of_s: int = 30) -> float:
    """The value over a minute, after orders for 4 and 2 cents at seconds 0 and 10."""
    view = FeatureView(
        name="one",
        source=PLACED,
        entity=SHOP,
        columns=(CENTS,),
        aggregations=(an_aggregation(operation, windows=(MINUTE,)),),
    )
    state = state_of(view)
    event_times = START_US + np.array([0, 10]) * SECOND
    events = {"event_time_us": event_times, "cents": np.array([4, 2])}
    rows = state.rows_of(PLACED, events, event_times)
    same_entity = rows.select(np.arange(2), np.zeros(2, np.int64))
    queries = PointInTimeQueries(
        group=np.zeros(1, np.int64), as_of_us=np.array([START_US + as_of_s * SECOND])
    )
    return float(state.compute(same_entity, queries)[0, 0])

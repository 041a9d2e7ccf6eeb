"""A formula over a request that fails gives null, counted by name, live as in history."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from features.definitions import (
    Aggregation,
    CalendarView,
    Decision,
    Entity,
    FeatureService,
    ItemValue,
    PreviousView,
    PythonView,
    RequestColumn,
    Span,
    View,
)
from features.engine.formulas import FAILURES
from features.engine.request_columns import request_values
from tests.support.by_hand import an_event, assert_values, at, query, seconds, sent
from tests.support.generated.cases import Case

SHOP = Entity(name="shop", keys=("shop",))
SOLD = an_event(cents=int, due_us=int)
KEY: dict[str, Any] = {"name": "made", "entity": SHOP}
LIMITS: dict[str, Any] = {"reach": seconds(100), "ahead": seconds(100)}


def calendar(start: Callable[[Any], Any]) -> View:
    span = Span(name="s", start=start, end=lambda q: q["due_us"] + 10, reads=("due_us",))
    count = (Aggregation(operation="count"),)
    return CalendarView(
        source=SOLD, at="due_us", spans=(span,), aggregations=count, **KEY, **LIMITS
    )


def previous(compute: Callable[[Any, Any], Any]) -> View:
    value = ItemValue(name="v", meaning="", compute=compute)
    return PreviousView(
        item="event_id",
        opened=SOLD,
        order="due_us",
        before="due_us",
        keeps=((SOLD, ("cents",)),),
        values=(value,),
        **KEY,
        **LIMITS,
    )


def function(compute: Callable[[Any, int], Any]) -> View:
    keeps = ((SOLD, ("cents",)),)
    return PythonView(keeps=keeps, compute=compute, names=("v",), ttl=seconds(100), **KEY)


def bad_at_20(values: Any) -> Any:
    """Raises for the request at second 20."""
    if (np.asarray(values) == at(20)).any():
        raise LookupError
    return values


VIEWS = {
    "made: start of span 's'": (calendar(lambda q: bad_at_20(q["due_us"])), 1.0),
    "made: value 'v'": (
        previous(lambda item, q: item["shop.sold.cents"] + 0 * bad_at_20(q["due_us"])),
        7.0,
    ),
    "made: its function": (
        function(lambda e, t: [e["shop.sold"]["cents"].sum() + 0 * bad_at_20(t)]),
        7.0,
    ),
}


@pytest.mark.parametrize("formula", VIEWS)
def test_a_query_that_a_formula_fails_for_is_null_and_its_neighbours_have_values(
    formula: str,
) -> None:
    view, value = VIEWS[formula]
    counter = FAILURES.labels(formula=f"view {formula}")
    before = counter._value.get()
    due = at(30) if "span" in formula else at(1)
    case = Case(
        events=(SOLD,),
        request=SOLD,
        views=(view,),
        sent=(sent(SOLD, 1, cents=7, due_us=due),),
        queries=tuple(query(SOLD, second, cents=0, due_us=at(second)) for second in (20, 30)),
    )
    assert_values(case, (None,), (value,))
    assert counter._value.get() >= before + 3  # live, in history, and in history in parts


@pytest.mark.parametrize(
    ("compute", "expected"),
    [
        (lambda q: np.array([100 // c for c in q["cents"].tolist()]), [50.0, math.nan, 25.0]),
        (lambda _: 1, [math.nan] * 3),
        (lambda q: q["cents"][:1], [2.0, 0.0, 4.0]),
        (lambda q: np.stack([q["cents"]] * 2, axis=1), [math.nan] * 3),
        (lambda q: np.array(["x"] * len(q["cents"])), [math.nan] * 3),
    ],
)
def test_a_request_column_is_null_where_it_fails(
    compute: Callable[[Any], Any], expected: list[float]
) -> None:
    service = FeatureService(
        name="made",
        decision=Decision(
            request=SOLD, source=SOLD, entity_id="shop", at=lambda e: e["event_time_us"]
        ),
        request_columns=(
            RequestColumn(name="q", compute=compute, reads=("cents",)),
            RequestColumn(name="c", compute=compute, reads=("cents",), category=True),
        ),
        views=(),
    )
    values = request_values(service, {"cents": np.array([2, 0, 4])}, 3)
    np.testing.assert_array_equal(values.numbers[:, 0], expected)
    assert all(isinstance(text, str) for text in values.categories["c"])

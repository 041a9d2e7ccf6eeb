"""The cost of a join grows with rows and queries together, not with each pair of them.

Memory shows it: code that looks at every row for every query holds their pairs, or parts of them.
Two thousand rows and queries have four million pairs, and each of these takes 8 bytes for every
number that is known of it.
"""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from features.definitions import (
    Aggregation,
    CalendarView,
    Column,
    Entity,
    FeatureView,
    ItemValue,
    OpenView,
    PreviousView,
    Span,
    View,
)
from features.engine.label_windows import happened_within
from features.engine.queries import PointInTimeQueries
from features.engine.view_states import state_of
from infra.clock import SECOND
from tests.support.by_hand import an_event, seconds

N = 4_000
BYTES_PER_ROW = 3_000
"""Of dozens of int64 columns; the pairs would take 32,000 for each of them."""

SHOP = Entity(name="shop", keys=("shop",))
SOLD = an_event(order=str, cents=int, at_us=int)
PRICE = Column(name="price", compute=lambda e: e["cents"], reads=("cents",))
EVERY_OPERATION = tuple(
    Aggregation(operation=operation, column=column, windows=(seconds(100), seconds(1_000)))  # type: ignore[arg-type]
    for operation, column in (
        ("count", None),
        *((o, "price") for o in ("sum", "mean", "rate")),
        *((o, "cents") for o in ("min", "max", "first", "last", "change", "distinct")),
        ("since_first", None),
        ("since_last", None),
    )
)
AGGREGATES = FeatureView(
    name="made", source=SOLD, entity=SHOP, columns=(PRICE,), aggregations=EVERY_OPERATION
)
ORDER_TIMES: dict[str, Any] = {"reach": seconds(100), "ahead": seconds(100)}
VIEWS: dict[str, View] = {
    "every operation": AGGREGATES,
    "exclude_self": replace(AGGREGATES, exclude_self="order"),
    "calendar": CalendarView(
        name="made",
        source=SOLD,
        entity=SHOP,
        at="at_us",
        spans=(
            Span(
                name="s",
                start=lambda q: q["at_us"] - SECOND,
                end=lambda q: q["at_us"] + SECOND,
                reads=("at_us",),
            ),
        ),
        columns=(PRICE,),
        aggregations=tuple(Aggregation(operation=o, column="price") for o in ("sum", "mean")),
        **ORDER_TIMES,
    ),
    "open": OpenView(
        name="made",
        entity=SHOP,
        item="order",
        opened=SOLD,
        due="at_us",
        closed_by=(),
        **ORDER_TIMES,
    ),
    "previous": PreviousView(
        name="made",
        entity=SHOP,
        item="order",
        opened=SOLD,
        order="at_us",
        before="at_us",
        keeps=((SOLD, ("cents",)),),
        values=(ItemValue(name="x", meaning="", compute=lambda i, _: i[f"{SOLD.name}.cents"]),),
        **ORDER_TIMES,
    ),
}
MOMENTS: dict[str, Callable[[int], Any]] = {
    "at one moment": lambda n: np.full(n, 50),
    "one after the other": lambda n: np.arange(n) % 97,
}


def peak_bytes(compute: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        compute()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("moments", MOMENTS)
@pytest.mark.parametrize("kind", VIEWS)
def test_a_view_looks_at_no_pair_of_a_row_and_a_query(kind: str, moments: str) -> None:
    """Each query is about one of the events, and has an event of its own."""
    state = state_of(VIEWS[kind])
    times = MOMENTS[moments](N) * SECOND
    orders = np.array([f"o{n}" for n in range(N)], object)
    events = {
        "event_time_us": times,
        "order": orders,
        "cents": np.arange(N) % 7,
        "at_us": times + 60 * SECOND,
    }
    rows = replace(state.rows_of(SOLD, events, times + np.arange(N)), group=np.zeros(N, np.int64))
    queries = PointInTimeQueries(
        group=np.zeros(N, np.int64),
        as_of_us=times + 30 * SECOND + np.arange(N)[::-1],
        fields={"order": orders, "at_us": times + 61 * SECOND},
    )
    assert peak_bytes(lambda: state.compute(rows, queries)) < BYTES_PER_ROW * N


def test_a_label_looks_at_no_pair_of_an_event_and_a_decision() -> None:
    group, times = np.zeros(N, np.int64), np.full(N, 50 * SECOND)

    def compute() -> object:
        return happened_within(
            group=group,
            happened_us=times,
            known_us=times,
            query_group=group,
            query_us=times - SECOND,
            within_us=10 * SECOND,
            wait_us=20 * SECOND,
        )

    assert peak_bytes(compute) < BYTES_PER_ROW * N

"""`exclude_self`: a query's values are those of the same rows without its own, one query a time."""

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.definitions import Aggregation, Column, Entity, FeatureView
from features.engine.queries import PointInTimeQueries
from features.engine.rows import PointInTimeRows
from features.engine.view_states import state_of
from features.maintenance.consistency import same_values
from infra.clock import SECOND
from tests.support.by_hand import an_event, seconds
from tests.support.examples import examples

SOLD = an_event(order=str | None, cents=int, city=str | None, weight=float | None)
WINDOWS = (seconds(10), seconds(40))
OPERATIONS = (
    ("count", None),
    ("sum", "price"),
    ("mean", "price"),
    *((o, c) for o in ("min", "max", "first", "last", "change") for c in ("cents", "weight")),
    *(("distinct", c) for c in ("city", "order", "cents")),
    ("since_first", None),
    ("since_last", None),
)
PLAIN = FeatureView(
    name="made",
    source=SOLD,
    entity=Entity(name="shop", keys=("shop",)),
    columns=(Column(name="price", compute=lambda e: e["cents"], reads=("cents",)),),
    aggregations=tuple(
        Aggregation(operation=o, column=c, windows=WINDOWS)  # type: ignore[arg-type]
        for o, c in OPERATIONS
    ),
)
EXCLUDING = replace(PLAIN, exclude_self="order")

orders = st.sampled_from([None, "o1", "o2", "o3", "o4"])
sales = st.fixed_dictionaries(
    {
        "happened": st.integers(0, 30),
        "late": st.sampled_from([0, 0, 0, 1, 5, 30]),
        "shop": st.integers(0, 1),
        "order": orders,
        "cents": st.integers(-2, 3),
        "city": st.sampled_from([None, "x", "y"]),
        "weight": st.sampled_from([None, 0.0, 1.5]),
    }
)
queries = st.fixed_dictionaries(
    {"at": st.integers(0, 75), "shop": st.integers(0, 2), "order": orders}
)


def texts(values: list[Any]) -> Any:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def rows_of(of: list[dict[str, Any]]) -> PointInTimeRows:
    happened = np.array([s["happened"] for s in of], np.int64) * SECOND
    known = happened + np.array([s["late"] for s in of], np.int64) * SECOND
    events = {
        "event_time_us": happened,
        "cents": np.array([s["cents"] for s in of], np.int64),
        "weight": np.array([s["weight"] for s in of], np.float64),
        "order": texts([s["order"] for s in of]),
        "city": texts([s["city"] for s in of]),
    }
    rows = state_of(EXCLUDING).rows_of(SOLD, events, known)
    return replace(rows, group=np.array([s["shop"] for s in of], np.int64))


def queries_of(of: list[dict[str, Any]]) -> PointInTimeQueries:
    return PointInTimeQueries(
        group=np.array([q["shop"] for q in of], np.int64),
        as_of_us=np.array([q["at"] for q in of], np.int64) * SECOND,
        fields={"order": texts([q["order"] for q in of])},
    )


@examples(150)
@given(st.lists(sales, max_size=25), st.lists(queries, min_size=1, max_size=12))
def test_each_query_is_answered_as_if_its_own_rows_were_not_there(
    sold: list[dict[str, Any]], asked: list[dict[str, Any]]
) -> None:
    together = state_of(EXCLUDING).compute(rows_of(sold), queries_of(asked))
    for i, query in enumerate(asked):
        own = query["order"]
        others = [s for s in sold if own is None or s["order"] != own]
        alone = state_of(PLAIN).compute(rows_of(others), queries_of([query]))
        assert same_values(together[i], alone[0]).all()

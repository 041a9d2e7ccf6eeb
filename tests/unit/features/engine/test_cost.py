"""The cost of a join grows with rows and queries together, not with each pair of them.

Memory shows it: code that looks at every row for every query holds their pairs, or parts of them.
Two thousand rows and queries have four million pairs, and each of these takes 8 bytes for every
number that is known of it.
"""

import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from types import FrameType
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
    TimeWindow,
    View,
)
from features.definitions.operations import OPERATIONS
from features.engine.deduplication import DeduplicationWindow, SeenIds, first_sightings
from features.engine.label_windows import first_known_after, happened_within
from features.engine.queries import PointInTimeQueries
from features.engine.rows import PointInTimeRows, joined
from features.engine.state import ViewState
from features.engine.value_format import entity_tags
from features.engine.value_limits import ValueLimits
from features.engine.view_states import state_of
from infra.clock import SECOND
from infra.kafka.partitions import Partition
from tests.support.by_hand import an_event, seconds

N = 4_000
BYTES_PER_ROW = 3_000
"""Of dozens of int64 columns; the pairs would take 32,000 for each of them."""

SHOP = Entity(name="shop", keys=("shop",))
SHOP_KEY = b"a"
SOLD = an_event(order=str, cents=int, at_us=int)
SENT = an_event("shop.sent", order=str, cents=int, at_us=int)
PRICE = Column(name="price", compute=lambda e: e["cents"], reads=("cents",))
WINDOWS = (seconds(100), seconds(1_000))
HOPS = tuple(TimeWindow(length=length, hop=seconds(10)) for length in WINDOWS)


def every_operation(*windows: TimeWindow | timedelta) -> tuple[Aggregation, ...]:
    of: dict[str, str | None] = {
        **dict.fromkeys(("count", "since_first", "since_last")),
        **dict.fromkeys(("sum", "mean", "rate"), "price"),
        **dict.fromkeys(("min", "max", "first", "last", "change", "distinct"), "cents"),
    }
    assert set(of) == set(OPERATIONS), "a new operation has to be cheap too"
    return tuple(
        Aggregation(operation=operation, column=column, windows=windows)  # type: ignore[arg-type]
        for operation, column in of.items()
    )


AGGREGATES = FeatureView(
    name="made",
    source=SOLD,
    entity=SHOP,
    columns=(PRICE,),
    aggregations=every_operation(*WINDOWS),
)
ORDER_TIMES: dict[str, Any] = {"reach": seconds(100), "ahead": seconds(100)}
VIEWS: dict[str, View] = {
    "every operation": AGGREGATES,
    "exclude_self": replace(AGGREGATES, exclude_self="order"),
    "hops": replace(AGGREGATES, aggregations=every_operation(*HOPS)),
    "hops and exclude_self": replace(
        AGGREGATES, aggregations=every_operation(*HOPS), exclude_self="order"
    ),
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
        aggregations=(
            Aggregation(operation="count"),
            *(Aggregation(operation=o, column="price") for o in ("sum", "mean", "rate")),
        ),
        **ORDER_TIMES,
    ),
    "open": OpenView(
        name="made",
        entity=SHOP,
        item="order",
        opened=SOLD,
        due="at_us",
        closed_by=(SENT,),
        **ORDER_TIMES,
    ),
    "previous": PreviousView(
        name="made",
        entity=SHOP,
        item="order",
        opened=SOLD,
        order="at_us",
        before="at_us",
        keeps=((SOLD, ("cents",)), (SENT, ("cents",))),
        values=(ItemValue(name="x", meaning="", compute=lambda i, _: i[f"{SENT.name}.cents"]),),
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


def rows_and_queries(
    kind: str, moments: str, n: int = N
) -> tuple[ViewState, PointInTimeRows, PointInTimeQueries]:
    """Each query is about one of the events, and has an event of its own."""
    state = state_of(VIEWS[kind], limits=ValueLimits(max_rows=10**9))
    times = MOMENTS[moments](n) * SECOND
    orders = np.array([f"o{i}" for i in range(n)], object)
    events = {
        "event_time_us": times,
        "order": orders,
        "cents": np.arange(n) % 7,
        "at_us": times + 60 * SECOND,
    }
    sources = VIEWS[kind].sources
    rows = joined([state.rows_of(event, events, times + np.arange(n)) for event in sources])
    queries = PointInTimeQueries(
        group=np.zeros(n, np.int64),
        as_of_us=times + 30 * SECOND + np.arange(n)[::-1],
        fields={"order": orders, "at_us": times + 61 * SECOND},
    )
    return state, replace(rows, group=np.zeros(len(rows), np.int64)), queries


def live(state: ViewState, rows: PointInTimeRows, queries: PointInTimeQueries) -> object:
    """The same from one value of the online store, in which half of the rows are compacted."""
    packed = state.pack_rows(rows, entity_tags([SHOP_KEY] * len(rows)))
    values, _ = state.append([None], [packed.tobytes()], [SHOP_KEY])
    compacted = state.compact(values, [SHOP_KEY], int(np.median(rows.known_us)))
    return state.read(compacted, [SHOP_KEY], queries.group, queries.as_of_us, queries.fields)


PATHS: dict[str, Callable[[ViewState, PointInTimeRows, PointInTimeQueries], object]] = {
    "history": lambda state, rows, queries: state.compute(rows, queries),
    "live": live,
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("moments", MOMENTS)
@pytest.mark.parametrize("kind", VIEWS)
def test_a_view_looks_at_no_pair_of_a_row_and_a_query(kind: str, moments: str, path: str) -> None:
    made = rows_and_queries(kind, moments)
    assert peak_bytes(lambda: PATHS[path](*made)) < BYTES_PER_ROW * N


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", VIEWS)
def test_a_view_goes_through_no_pairs_one_by_one(kind: str, path: str) -> None:
    """A loop over pairs needs no memory, but 64 times the calls where there are 8 times the rows:
    so does a loop that calls something for each row of each query."""
    few, many = (
        calls(lambda n=n: PATHS[path](*rows_and_queries(kind, "at one moment", n)))  # type: ignore[misc]
        for n in (250, 2_000)
    )
    assert many < 16 * few


def calls(compute: Callable[[], object]) -> int:
    """How many lines of Python were run."""
    lines = 0

    def count(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        compute()
    finally:
        sys.settrace(before)
    return lines


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


def test_the_first_label_looks_at_no_pair_of_an_event_and_a_decision() -> None:
    group, times = np.zeros(N, np.int64), np.full(N, 50 * SECOND)

    def compute() -> object:
        return first_known_after(
            group=group,
            happened_us=times,
            known_us=times,
            rank=np.arange(N),
            query_group=group,
            query_us=times - SECOND,
        )

    assert peak_bytes(compute) < BYTES_PER_ROW * N


@pytest.mark.parametrize("distinct", [1, N])
def test_duplicates_are_found_without_comparing_each_event_with_each_other(distinct: int) -> None:
    ids, known = np.arange(N) % distinct, np.full(N, 50 * SECOND)
    partition = Partition(SOLD.name, 0)

    def history() -> object:
        return first_sightings(
            ids=ids,
            partitions=np.zeros(N, np.int64),
            offsets=np.arange(N),
            known_at_us=known,
            horizon_us=SECOND,
        )

    def ingest() -> object:
        window = DeduplicationWindow(SECOND)
        seen = [f"e{i}" for i in ids.tolist()]
        return window.first_sightings(
            SeenIds(partition=partition, first_offset=0, ids=seen, known_at_us=known)
        )

    for path in (history, ingest):
        assert peak_bytes(path) < BYTES_PER_ROW * N
        assert calls(path) < 20 * N


def test_a_wide_view_is_declared_in_time_that_grows_with_its_columns() -> None:
    def declare(n: int) -> object:
        names = [f"c{i}" for i in range(n)]
        return FeatureView(
            name="made",
            source=SOLD,
            entity=SHOP,
            columns=tuple(replace(PRICE, name=name) for name in names),
            aggregations=tuple(
                Aggregation(operation="sum", column=name, windows=(seconds(1),)) for name in names
            ),
        )

    assert calls(lambda: declare(400)) < 16 * calls(lambda: declare(50))

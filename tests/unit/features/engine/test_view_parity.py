"""Every kind of view: live and historical values equal the reference, for any order of events."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from features.definitions import Float64Array, View
from features.engine.columns import arrays_of
from features.engine.event_rows import view_rows
from features.engine.state import ViewValues
from features.engine.value_limits import ValueLimits
from features.engine.view_states import state_of
from features.ingestion.compaction_watermark import CompactionWatermark
from features.ingestion.offline_sink import OfflineSink
from features.ingestion.online_sink import OnlineSink
from features.maintenance.consistency import same_values
from features.retrieval.event_log import EventLog
from features.retrieval.view_values import view_values
from features.stores.memory import MemoryOfflineStore, MemoryOnlineStore
from infra.clock import SECOND
from infra.kafka.partitions import Partition
from tests.support.data.orders import (
    EVENTS,
    PLACED,
    REQUESTED,
    START_US,
    VIEWS,
    Delivery,
    Query,
    Requested,
    fields_of,
    rows_of,
    times_of,
    us,
)
from tests.support.examples import examples
from tests.support.reference.orders import reference

HORIZON_S, HOLD_S = 1_000, 15
SHOPS = ("a", "b")
PARTITIONS = [Partition(e.name, 0) for e in EVENTS]
LATE = st.sampled_from([0, 0, 0, 1, 5, 11, 39, 40, 41, 100])


@st.composite
def histories(draw: st.DrawFn, at_least: int = 0) -> list[Delivery]:
    """Orders that are placed once, and shipped or dropped once, twice or never, in any order."""
    deliveries = []
    for n in range(draw(st.integers(at_least, 14))):
        shop = draw(st.sampled_from(SHOPS))
        happened = draw(st.integers(0, 90))
        deliveries.append(
            Delivery(
                event=PLACED.name,
                id=f"placed{n}",
                order=f"o{n}",
                happened=happened,
                known=happened + draw(LATE),
                shop=shop,
                customer=draw(st.sampled_from([None, "c1", "c2", "c3"])),
                cents=draw(st.integers(-3, 6)),
                weight=draw(st.sampled_from([None, 0.0, -0.0, 1.5, -2.25, 0.14, 1e300])),
                due=happened + draw(st.integers(0, 80)),
            )
        )
        for k in range(draw(st.integers(0, 2))):
            ended = draw(st.integers(0, 150))
            deliveries.append(
                Delivery(
                    event=draw(st.sampled_from([e.name for e in EVENTS[1:]])),
                    id=f"end{n}-{k}",
                    order=f"o{n}",
                    happened=ended,
                    known=ended + draw(LATE),
                    shop=shop,
                    parcels=draw(st.sampled_from([None, 0, 1, 2])),
                )
            )
    return draw(st.permutations(deliveries))


query_lists = st.lists(
    st.builds(
        lambda shop, t, ahead, order: Query(shop=shop, t=t, due=t + ahead, order=order),
        shop=st.sampled_from((*SHOPS, "never seen")),
        t=st.integers(-5, 200),
        ahead=st.integers(-5, 40),
        order=st.sampled_from([f"o{n}" for n in range(15)]),
    ),
    min_size=1,
    max_size=12,
)
cuts = st.lists(st.integers(0, 40), max_size=5)
each_view = pytest.mark.parametrize("view", VIEWS, ids=lambda v: v.name)


@each_view
@examples(120)
@given(histories(), cuts, query_lists)
def test_live_and_historical_values_equal_the_reference(
    view: View, deliveries: list[Delivery], cut_at: list[int], queries: list[Query]
) -> None:
    newest = max((e.known for e in deliveries), default=-100)
    queries = [*queries, *_earliest_exact_queries(newest)]
    expected = np.array([reference(view, deliveries, q) for q in queries], np.float64)
    online = live(view, deliveries, cut_at, queries)

    assert same_values(historical(view, deliveries, queries), expected).all()
    assert same_values(online.values, expected)[online.exact].all()
    assert all(online.exact[i] for i, q in enumerate(queries) if q.t >= newest - HOLD_S)


@each_view
@examples(40)
@given(histories(), cuts, query_lists, st.integers(2, 8))
def test_a_value_that_reached_its_limit_is_right_wherever_it_says_so(
    view: View,
    deliveries: list[Delivery],
    cut_at: list[int],
    queries: list[Query],
    max_rows: int,
) -> None:
    newest = max((e.known for e in deliveries), default=-100)
    queries = [*queries, *_earliest_exact_queries(newest)]
    expected = np.array([reference(view, deliveries, q) for q in queries], np.float64)
    limits = ValueLimits(slack=2, max_rows=max_rows)
    online = live(view, deliveries, cut_at, queries, limits=limits)
    assert same_values(online.values, expected)[online.exact].all()

    # Once no event of before can count, every value is exact again.
    end = newest + view.lookback_us // SECOND + 200
    later = [Query(shop=shop, t=end, due=end, order="o1") for shop in SHOPS]
    assert live(view, deliveries, cut_at, later, limits=limits).exact.all()


@each_view
@examples(40)
@given(histories(), histories(), query_lists)
def test_later_events_change_no_earlier_value(
    view: View, deliveries: list[Delivery], later: list[Delivery], queries: list[Query]
) -> None:
    end = max((e.known for e in deliveries), default=0)
    early = [Query(shop=q.shop, t=min(q.t, end), order=q.order, due=q.due) for q in queries]
    future = [
        Delivery(
            event=e.event,
            id=f"later{i}",
            order=e.order if e.event != PLACED.name else f"later{e.order}",
            happened=e.happened,
            known=max(end, e.happened) + 1 + i,
            shop=e.shop,
            cents=e.cents,
            due=e.due,
        )
        for i, e in enumerate(later)
    ]
    expected = historical(view, deliveries, early)
    assert same_values(historical(view, [*deliveries, *future], early), expected).all()
    online = live(view, [*deliveries, *future], [len(deliveries)], early)
    assert same_values(online.values, expected)[online.exact].all()


@each_view
@examples(40)
@given(histories(), cuts, query_lists, st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(
    view: View, deliveries: list[Delivery], cut_at: list[int], queries: list[Query], random: object
) -> None:
    shuffled = random.sample(deliveries, len(deliveries))  # type: ignore[attr-defined]
    ordered, unordered = live(view, deliveries, cut_at, queries), live(view, shuffled, [], queries)
    comparable = ordered.exact & unordered.exact
    assert same_values(ordered.values, unordered.values)[comparable].all()


@each_view
@examples(100)
@given(histories(at_least=6), st.lists(st.integers(30, 110), min_size=1, max_size=3))
def test_compaction_changes_no_value_of_a_later_query(
    view: View, deliveries: list[Delivery], compacted_through: list[int]
) -> None:
    state = state_of(view)
    rows, _ = rows_of([structs.replace(e, shop="a") for e in deliveries], 0, len(deliveries))
    changes = [c for c in (view_rows(view, r) for r in rows if r.event in view.sources) if c]
    appended = state.append([None], [b"".join(c.rows.tobytes() for c in changes)], [b"a"])[0][0]
    compacted = appended
    for second in compacted_through:
        compacted = state.compact([compacted], [b"a"], us(second))[0]
    last = max(compacted_through)
    queries = [Query(shop="a", t=last + i, due=last + i + 2, order="o1") for i in range(60)]
    fields = arrays_of(fields_of(queries), Requested, view.request_fields)
    features = state.read(
        [appended, compacted],
        [b"a", b"a"],
        np.repeat([0, 1], 60),
        np.tile(times_of(queries), 2),
        {name: np.tile(values, 2) for name, values in fields.items()},
    )
    assert same_values(features.values[:60], features.values[60:]).all()
    assert features.exact.all()


def _earliest_exact_queries(newest: int) -> list[Query]:
    """Queries at the times where the state has merged and dropped the most rows."""
    return [
        Query(shop=shop, t=t, due=t + ahead, order="o1")
        for shop in SHOPS
        for t in range(newest - HOLD_S, newest - HOLD_S + 4)
        for ahead in (0, 3)
    ]


# Few, so that short histories meet many compactions.
FEW = ValueLimits(slack=2)


def live(
    view: View,
    deliveries: Sequence[Delivery],
    cut_at: Sequence[int],
    queries: Sequence[Query],
    *,
    limits: ValueLimits = FEW,
) -> ViewValues:
    """The values of the online store after the events arrived in several batches."""
    store = MemoryOnlineStore()
    writer = OnlineSink(
        store,
        [view],
        duplicate_horizon_us=HORIZON_S * SECOND,
        watermark=CompactionWatermark(least_us=HOLD_S * SECOND, most_us=HOLD_S * SECOND),
        limits=limits,
    )
    writer.load(PARTITIONS)
    for start, stop in _batches(len(deliveries), cut_at):
        writer.write(*rows_of(deliveries, start, stop))
    shops = [*SHOPS, "never seen"]
    keys = [s.encode() for s in shops]
    values = store.get([(view.name, keys)])[0]
    entities = np.array([shops.index(q.shop) for q in queries])
    fields = arrays_of(fields_of(queries), Requested, view.request_fields)
    return state_of(view).read(values, keys, entities, times_of(queries), fields)


def historical(
    view: View, deliveries: Sequence[Delivery], queries: Sequence[Query]
) -> Float64Array:
    """The values of history after all events."""
    store = MemoryOfflineStore()
    buffer = OfflineSink(store, {e.name: e for e in EVENTS}, clock_us=lambda: START_US)
    buffer.load(PARTITIONS)
    buffer.add(*rows_of(deliveries, 0, len(deliveries)))
    buffer.flush()
    history = EventLog(store, horizon_us=HORIZON_S * SECOND)
    rows = pl.DataFrame(fields_of(queries))
    return view_values(view, history, rows, times_of(queries), decided_by=REQUESTED)


def _batches(n: int, cut_at: Sequence[int]) -> list[tuple[int, int]]:
    edges = sorted({0, n, *(c for c in cut_at if c < n)})
    return list(pairwise(edges))

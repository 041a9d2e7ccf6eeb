"""Live and historical values are equal bit for bit, and equal to the slow reference."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import polars as pl
from hypothesis import example, given
from hypothesis import strategies as st

from features.definitions import Float64Array
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
from tests.support.data.sales import (
    SHOP_SALES,
    SOLD,
    START_US,
    Sale,
    reference,
    rows_of,
    sale,
    without_duplicates,
)
from tests.support.examples import examples

HORIZON_S, HOLD_S = 30, 15
PARTITION = Partition(SOLD.name, 0)
SHOPS = ("a", "b", "never seen")
Query = tuple[str, int]

sales_lists = st.lists(
    st.builds(
        # Sightings of one id lie less than a horizon apart: a re-sent event has the same time.
        lambda n, apart, late, **rest: Sale(
            id=f"e{n}", happened=3 * n + apart, known=3 * n + apart + late, **rest
        ),
        n=st.integers(0, 24),  # few ids: many duplicates
        apart=st.integers(0, 18),
        late=st.sampled_from([0, 0, 0, 1, 5, 11, 39, 40, 41, 100, -2]),
        shop=st.sampled_from(SHOPS[:2]),
        cents=st.integers(-3, 6),
        weight=st.sampled_from([None, 0.0, -0.0, 1.5, -2.25, 1e300]),
    ),
    max_size=50,
)
query_lists = st.lists(
    st.tuples(st.sampled_from(SHOPS), st.integers(-5, 200)), min_size=1, max_size=20
)
cuts = st.lists(st.integers(0, 50), max_size=6)


def live(
    sales: Sequence[Sale],
    cut_at: Sequence[int],
    queries: Sequence[Query],
    *,
    horizon_s: int = HORIZON_S,
) -> ViewValues:
    """The values of the online store after the sales arrived in several batches."""
    store = MemoryOnlineStore()
    writer = OnlineSink(
        store,
        [SHOP_SALES],
        duplicate_horizon_us=horizon_s * SECOND,
        watermark=CompactionWatermark(least_us=HOLD_S * SECOND, most_us=HOLD_S * SECOND),
        limits=ValueLimits(slack=3),  # so that short histories meet many compactions
    )
    writer.load([PARTITION])
    for start, stop in batches(len(sales), cut_at):
        rows = rows_of(sales[start:stop], first_offset=start)
        writer.write([rows], {PARTITION: stop})
    keys = [s.encode() for s in SHOPS]
    values = store.get([(SHOP_SALES.name, keys)])[0]
    entities = np.array([SHOPS.index(shop) for shop, _ in queries])
    return state_of(SHOP_SALES).read(values, keys, entities, times(queries))


def historical(
    sales: Sequence[Sale],
    cut_at: Sequence[int],
    queries: Sequence[Query],
    *,
    horizon_s: int = HORIZON_S,
) -> Float64Array:
    """The values of history after the same batches."""
    store = MemoryOfflineStore()
    buffer = OfflineSink(store, {SOLD.name: SOLD}, clock_us=lambda: START_US)
    buffer.load([PARTITION])
    for start, stop in batches(len(sales), cut_at):
        rows = rows_of(sales[start:stop], first_offset=start)
        buffer.add([rows], {PARTITION: stop})
        buffer.flush()
    query_frame = pl.DataFrame({"shop": [shop for shop, _ in queries]})
    history = EventLog(store, horizon_us=horizon_s * SECOND)
    return view_values(SHOP_SALES, history, query_frame, times(queries))


def test_a_span_sent_again_counts_once_live_and_in_history() -> None:
    """A source that repeats a whole week sends ids that lie further back than two horizons."""
    once = [
        Sale(id=f"e{i}", happened=i, known=i, shop="a", cents=1, weight=None) for i in range(60)
    ]
    twice = [*once, *once]
    query = [("a", 60)]
    expected = historical(once, [], query, horizon_s=2)
    online = live(twice, [30, 60], query, horizon_s=2)
    assert online.exact.all()
    assert same_values(online.values, expected).all()
    assert same_values(historical(twice, [30, 60], query, horizon_s=2), expected).all()


def batches(n: int, cut_at: Sequence[int]) -> list[tuple[int, int]]:
    edges = sorted({0, n, *(c for c in cut_at if c < n)})
    return list(pairwise(edges))


def times(queries: Sequence[Query]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([START_US + t * SECOND for _, t in queries], np.int64)


@examples(200)
@given(sales_lists, cuts, query_lists)
# Two sightings one horizon apart, and one just beyond it.
@example([sale("1", 0), sale("1", 30), sale("1", 61)], [1, 2], [("a", 62), ("a", 31)])
# A window includes its edge; an event known at t does not count at t.
@example([sale("1", 0)], [], [("a", 0), ("a", 1), ("a", 10), ("a", 11), ("a", 40), ("a", 41)])
# Equal times: the larger value, and any value over none.
@example([sale("1", 5, weight=2.0), sale("2", 5), sale("3", 5, weight=-1.0)], [2], [("a", 6)])
def test_live_and_historical_values_equal_the_reference(
    sales: list[Sale], cut_at: list[int], queries: list[Query]
) -> None:
    expected = reference(without_duplicates(sales, horizon_s=HORIZON_S), queries)
    online = live(sales, cut_at, queries)

    assert same_values(historical(sales, cut_at, queries), expected).all()
    assert same_values(online.values, expected)[online.exact].all()


@examples(50)
@given(sales_lists, cuts, query_lists)
def test_every_query_within_the_hold_is_exact(
    sales: list[Sale], cut_at: list[int], queries: list[Query]
) -> None:
    newest = max((s.known for s in sales), default=-100)
    exact = live(sales, cut_at, queries).exact
    assert all(exact[i] for i, (_, t) in enumerate(queries) if t >= newest - HOLD_S)


@examples(50)
@given(sales_lists, sales_lists, query_lists)
def test_later_events_change_no_earlier_value(
    sales: list[Sale], later: list[Sale], queries: list[Query]
) -> None:
    end = max((s.known for s in sales), default=0)
    early = [(shop, min(t, end)) for shop, t in queries]
    future = [
        Sale(id=f"later{i}", happened=s.happened, known=end + 1 + i, shop=s.shop, cents=s.cents)
        for i, s in enumerate(later)
    ]
    assert same_values(historical(sales + future, [], early), historical(sales, [], early)).all()

    online = live(sales + future, [len(sales)], early)
    assert same_values(online.values, historical(sales, [], early))[online.exact].all()


@examples(50)
@given(sales_lists, cuts, query_lists, st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(
    sales: list[Sale], cut_at: list[int], queries: list[Query], random: object
) -> None:
    distinct = list({s.id: s for s in sales}.values())
    shuffled = random.sample(distinct, len(distinct))  # type: ignore[attr-defined]
    ordered, unordered = live(distinct, cut_at, queries), live(shuffled, [], queries)
    comparable = ordered.exact & unordered.exact
    assert same_values(ordered.values, unordered.values)[comparable].all()
    assert same_values(
        historical(distinct, cut_at, queries), historical(shuffled, [], queries)
    ).all()

"""The online sink: restarts, competing writers, changed declarations."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from features.definitions import FeatureView
from features.engine.value_format import ViewSchemaMismatch
from features.engine.value_limits import ValueLimits
from features.engine.view_states import state_of
from features.errors import OffsetConflict
from features.ingestion.compaction_watermark import CompactionWatermark
from features.ingestion.online_sink import OnlineSink
from features.stores.memory import MemoryOnlineStore
from infra.clock import SECOND
from infra.kafka.partitions import Partition
from tests.support.data.sales import CITY_SALES, SHOP_SALES, SOLD, START_US, Sale, rows_of, sale

P, REQUESTS = Partition(SOLD.name, 0), Partition("asked", 0)


def a_writer(store: MemoryOnlineStore, *views: FeatureView) -> OnlineSink:
    writer = OnlineSink(
        store,
        views or (SHOP_SALES,),
        duplicate_horizon_us=30 * SECOND,
        watermark=CompactionWatermark(least_us=15 * SECOND, most_us=15 * SECOND),
    )
    writer.load([P])
    return writer


def write(writer: OnlineSink, *sales: Sale, start: int) -> None:
    writer.write([rows_of(sales, first_offset=start)], {P: start + len(sales)})


def count(store: MemoryOnlineStore, second: int = 20) -> float:
    values = store.get([(SHOP_SALES.name, [b"a"])])[0]
    as_of = np.array([START_US + second * SECOND])
    return float(state_of(SHOP_SALES).read(values, [b"a"], np.array([0]), as_of).values[0][1])


def test_records_read_again_after_a_restart_count_once() -> None:
    store = MemoryOnlineStore()
    write(a_writer(store), sale("1"), sale("2"), start=0)
    write(a_writer(store), sale("1"), sale("2"), sale("3"), start=0)
    assert count(store) == 3
    assert store.positions() == {P: 3}


def test_records_read_again_count_once_even_after_their_ids_are_forgotten() -> None:
    store = MemoryOnlineStore()
    write(a_writer(store), sale("1"), start=0)
    write(a_writer(store), sale("2", 100), start=1)
    write(a_writer(store), sale("3", 200), start=2)
    assert [s.first_offset for s in store.seen_ids(P)] == [2]

    repeated = (sale("1"), sale("2", 100), sale("3", 200))
    write(a_writer(store), *repeated, sale("4", 201), start=0)
    assert count(store) == 1
    assert store.positions() == {P: 4}


def test_an_event_sent_again_after_a_restart_is_still_a_duplicate() -> None:
    store = MemoryOnlineStore()
    write(a_writer(store), sale("1"), start=0)
    restarted = a_writer(store)
    write(restarted, sale("1", 0, known=9), sale("2"), start=1)
    assert count(store) == 2
    assert restarted.duplicates == 1


def test_ids_that_no_exact_query_needs_are_deleted_from_the_store() -> None:
    """After 85 seconds: the longest window has 40, requests wait for 15, copies come within 30."""
    store = MemoryOnlineStore()
    writer = a_writer(store)
    for n in range(5):
        write(writer, sale(str(n), n * 45), start=n)
    assert [s.first_offset for s in store.seen_ids(P)] == [3, 4]
    write(writer, sale("5", 135 + 85), start=5)
    assert [s.first_offset for s in store.seen_ids(P)] == [3, 4, 5]


def test_an_update_behind_a_competing_writer_is_refused_and_writes_nothing() -> None:
    store = MemoryOnlineStore()
    writer, competitor = a_writer(store), a_writer(store)
    write(competitor, sale("1"), start=0)
    with pytest.raises(OffsetConflict):
        write(writer, sale("1"), sale("2"), start=0)
    assert count(store) == 1
    writer.load([P])
    write(writer, sale("1"), sale("2"), start=0)
    assert count(store) == 2


def test_a_store_of_changed_declarations_is_refused() -> None:
    store = MemoryOnlineStore()
    write(a_writer(store), sale("1"), start=0)
    changed = replace(SHOP_SALES, aggregations=SHOP_SALES.aggregations[:2])
    with pytest.raises(ViewSchemaMismatch, match="shop_sales"):
        a_writer(store, changed)
    # A view that is new has missed the events so far.
    with pytest.raises(ViewSchemaMismatch, match="city_sales"):
        a_writer(store, SHOP_SALES, CITY_SALES)
    store.clear()
    a_writer(store, SHOP_SALES, CITY_SALES)


def test_a_view_that_missed_events_is_refused_when_it_returns() -> None:
    store = MemoryOnlineStore()
    write(a_writer(store, SHOP_SALES, CITY_SALES), sale("1"), start=0)
    write(a_writer(store, SHOP_SALES), sale("2"), start=1)
    with pytest.raises(ViewSchemaMismatch, match="city_sales"):
        a_writer(store, SHOP_SALES, CITY_SALES)


def test_positions_advance_without_any_event_of_a_view() -> None:
    store = MemoryOnlineStore()
    writer = a_writer(store)
    writer.write([], {P: 7})
    assert store.positions() == {P: 7}


def test_the_newest_emission_time_of_each_partition_survives_restarts() -> None:
    store = MemoryOnlineStore()
    write(a_writer(store), sale("1", 5), sale("2", 3), start=0)
    assert store.newest_known_at_us() == {P: START_US + 5 * SECOND}
    write(a_writer(store), sale("late", 1, known=4), start=2)
    assert store.newest_known_at_us() == {P: START_US + 5 * SECOND}
    write(a_writer(store), sale("duplicate"), sale("3", 9), start=3)
    assert store.newest_known_at_us() == {P: START_US + 9 * SECOND}
    a_writer(store).write([], {P: 9})  # transaction markers only
    assert store.newest_known_at_us() == {P: START_US + 9 * SECOND}


def test_values_that_an_open_request_needs_are_not_compacted() -> None:
    """200 sales in 100 seconds, read as of the 50th: exact while a request waits, not after it."""
    watermark = CompactionWatermark(least_us=10 * SECOND, most_us=80 * SECOND)
    for answered, exact in (({}, True), ({REQUESTS: 1}, False)):
        store = MemoryOnlineStore()
        writer = OnlineSink(
            store,
            [SHOP_SALES],
            duplicate_horizon_us=30 * SECOND,
            watermark=watermark,
            limits=ValueLimits(slack=3),
        )
        writer.load([P])
        for n in range(200):
            write(writer, sale(str(n), n // 2), start=n)
            watermark.observe(ends=lambda: {REQUESTS: 1}, answered=partial(dict, answered))
        values = store.get([(SHOP_SALES.name, [b"a"])])[0]
        as_of = np.array([START_US + 50 * SECOND])
        features = state_of(SHOP_SALES).read(values, [b"a"], np.array([0]), as_of)
        assert features.exact.tolist() == [exact]
        if exact:
            assert features.values[0][:2].tolist() == [20, 80]


def test_an_event_without_an_entity_updates_no_entity() -> None:
    store = MemoryOnlineStore()
    write(a_writer(store, SHOP_SALES, CITY_SALES), sale("1", city=None), start=0)
    assert (store.entities("shop_sales"), store.entities("city_sales")) == (1, 0)


def test_the_views_of_a_domain_that_is_left_out_are_used_again_once_it_is_back() -> None:
    store = MemoryOnlineStore()
    write(a_writer(store, SHOP_SALES, CITY_SALES), sale("1"), start=0)
    left_out = OnlineSink(
        store,
        (SHOP_SALES,),
        duplicate_horizon_us=30 * SECOND,
        watermark=CompactionWatermark(least_us=15 * SECOND, most_us=15 * SECOND),
        keeps_undeclared=True,
    )
    left_out.load([P])
    left_out.write([], {P: 1})
    left_out.write([rows_of((sale("2"),), first_offset=1)], {P: 2})
    a_writer(store, SHOP_SALES, CITY_SALES)
    assert set(store.schema_ids()) == {SHOP_SALES.name, CITY_SALES.name}

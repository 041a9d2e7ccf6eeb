"""What every online store promises."""

import random
from collections.abc import Iterator

import numpy as np
import pytest

from features.engine.deduplication import SeenIds
from features.engine.sorting import UNSET
from features.engine.value_format import ViewSchemaMismatch, compacted_through_us
from features.engine.value_limits import DROPPED, ValueLimits
from features.engine.view_rows import ViewRows
from features.engine.view_states import state_of
from features.errors import OffsetConflict, StoreUnavailable
from features.stores.ports import OnlineContent, OnlineStore, OnlineUpdate
from infra.clock import SECOND
from infra.kafka.logs import LogOrigin
from tests.support.data.sales import CITY_SALES, SHOP_SALES, START_US, reference, sale
from tests.support.stores import P0, P1, content, count, update


def test_a_new_store_is_empty(store: OnlineStore) -> None:
    assert store.positions() == {}
    assert store.newest_known_at_us() == {}
    assert store.get([("shop_sales", [b"a"]), ("city_sales", [])]) == [[None], []]
    assert store.schema_ids() == {}
    assert store.seen_ids(P0) == []
    assert store.entities("shop_sales") == 0


def test_rows_of_several_updates_add_up(store: OnlineStore) -> None:
    store.apply(update(sale("1"), sale("2", shop="b")))
    store.apply(update(sale("3"), start=2))
    assert (count(store), count(store, "b"), count(store, "c")) == (2, 1, 0)
    assert store.positions() == {P0: 3}
    assert store.entities("shop_sales") == 2


def test_a_busy_entity_stays_small_and_says_that_it_is_not_exact(store: OnlineStore) -> None:
    limits, row = ValueLimits(max_rows=20), state_of(SHOP_SALES).format.base_row.itemsize
    DROPPED.take()
    sizes = []
    for n in range(40):
        busy = [sale(f"{n}-{i}", n) for i in range(30)]
        quiet = [sale(f"quiet{n}", n, shop="b")] if n % 4 == 0 else []
        store.apply(update(*busy, *quiet, start=n, end=n + 1, limits=limits))
        sizes.append(len(store.get([(SHOP_SALES.name, [b"a"])])[0][0] or b"") // row)
    # The servers look at a value each time it has grown by a quarter.
    assert max(sizes) <= 25 + 30
    assert DROPPED.take()[SHOP_SALES.name] >= (40 - 25) * 30

    names = [b"a", b"b"]
    values = store.get([(SHOP_SALES.name, names)])[0]
    as_of = np.array([START_US + s * SECOND for s in (40, 40, 100)])
    read = state_of(SHOP_SALES).read(values, names, np.array([0, 1, 0]), as_of)
    # No window of the third query reaches an event that was dropped.
    assert read.exact.tolist() == [False, True, True]
    in_40s, in_10s = (SHOP_SALES.features.index(f"shop_sales_count_{w}s") for w in (40, 10))
    assert read.values[:, in_40s].tolist()[1:] == [10, 0]
    # The newest events are still there, so the short window is right.
    assert read.values[0, in_10s] == 10 * 30


def test_an_update_from_a_wrong_position_changes_nothing(store: OnlineStore) -> None:
    store.apply(update(sale("1")))
    for start in (0, 2):
        with pytest.raises(OffsetConflict) as caught:
            store.apply(
                update(sale("2"), start=start, schemas={"new": 1}, newest_us={P0: START_US})
            )
        conflict = caught.value
        assert (conflict.partition, conflict.expected, conflict.actual) == (P0, start, 1)
    assert count(store) == 1
    assert store.positions() == {P0: 1}
    assert store.newest_known_at_us() == {}
    assert store.schema_ids() == {}


def test_one_wrong_position_of_several_rejects_the_whole_update(store: OnlineStore) -> None:
    store.apply(update(sale("1")))
    half_wrong = OnlineUpdate(
        changes=update(sale("2")).changes,
        starts={P1: 0, P0: 0},
        ends={P1: 1, P0: 2},
        compacted_through_us=UNSET,
    )
    with pytest.raises(OffsetConflict):
        store.apply(half_wrong)
    assert count(store) == 1
    assert store.positions() == {P0: 1}


def test_a_failure_in_the_middle_changes_nothing(store: OnlineStore) -> None:
    """The second view's value has another schema, so the first view's must not be written."""
    store.apply(update(sale("1")))
    changes = list(update(sale("2"), sale("3")).changes)
    broken = OnlineUpdate(
        changes=[changes[0], _of_another_schema(changes[1])],
        starts={P0: 1},
        ends={P0: 3},
        compacted_through_us=UNSET,
    )
    with pytest.raises(ViewSchemaMismatch):
        store.apply(broken)
    assert count(store) == 1
    assert store.positions() == {P0: 1}


def test_the_newest_emission_time_is_stored_for_each_partition(store: OnlineStore) -> None:
    store.apply(update(sale("1"), newest_us={P0: START_US}))
    store.apply(update(sale("2"), partition=P1, newest_us={P1: START_US + 5}))
    assert store.newest_known_at_us() == {P0: START_US, P1: START_US + 5}
    store.apply(update(start=1, end=3))
    store.apply(update(sale("3"), start=3, newest_us={P0: START_US + 9}))
    assert store.newest_known_at_us() == {P0: START_US + 9, P1: START_US + 5}
    assert store.positions() == {P0: 4, P1: 1}


def test_positions_advance_without_rows(store: OnlineStore) -> None:
    store.apply(update(end=7))
    assert store.positions() == {P0: 7}


def test_values_are_compacted_as_they_grow(store: OnlineStore) -> None:
    sales = [sale(str(i), i % 20) for i in range(200)]
    store.apply(update(*sales, compacted_through=20))
    value = store.get([(SHOP_SALES.name, [b"a"])])[0][0]
    assert value is not None
    assert compacted_through_us(value) == START_US + 20 * SECOND
    assert len(value) < 21 * state_of(SHOP_SALES).format.base_row.itemsize + 64
    assert count(store) == 200


def test_late_and_equal_times_from_two_writers_give_the_reference_values(
    store: OnlineStore,
) -> None:
    """Events arrive shuffled, times repeat, and both writers' events have the same shops."""
    chance = random.Random(11)
    sales = [
        sale(
            str(i),
            chance.randrange(20),
            known=chance.randrange(20, 40),
            shop=chance.choice("ab"),
            cents=chance.randrange(6),
            weight=chance.choice((None, 1.5, 2.5)),
        )
        for i in range(600)
    ]
    reached = {P0: 0, P1: 0}
    for start in range(0, len(sales), 30):
        partition = chance.choice((P0, P1))
        part = sales[start : start + 30]
        store.apply(
            update(*part, start=reached[partition], partition=partition, compacted_through=30)
        )
        reached[partition] += len(part)
    assert store.positions() == reached
    queries = [(shop, t) for shop in "ab" for t in (30, 33, 36, 40, 50)]
    keys = [shop.encode() for shop, _ in queries]
    values = store.get([(SHOP_SALES.name, keys)])[0]
    as_of = np.array([START_US + t * SECOND for _, t in queries])
    features = state_of(SHOP_SALES).read(values, keys, np.arange(len(queries)), as_of)
    np.testing.assert_array_equal(features.values, reference(sales, queries))
    assert features.exact.all()


def test_seen_ids_are_stored_in_order_until_they_are_deleted(store: OnlineStore) -> None:
    slices = [
        SeenIds(partition=P0, first_offset=o, ids=[f"é{o}", "b"], known_at_us=np.array([o, o + 1]))
        for o in (300, 5, 70_000)
    ]
    store.apply(update(end=9, seen=slices))
    stored = store.seen_ids(P0)
    assert [s.first_offset for s in stored] == [5, 300, 70_000]
    assert stored[1].ids == ["é300", "b"]
    assert stored[1].known_at_us.tolist() == [300, 301]
    assert store.seen_ids(P1) == []

    store.apply(update(start=9, end=10, forget=[(P0, 5), (P0, 300)]))
    assert [s.first_offset for s in store.seen_ids(P0)] == [70_000]


def test_schema_ids_are_stored(store: OnlineStore) -> None:
    schemas = {"shop_sales": 2**64 - 1, "city_sales": 0}
    store.apply(update(end=1, schemas=schemas))
    assert store.schema_ids() == schemas


def test_a_view_that_the_writer_no_longer_maintains_loses_its_schema_id(store: OnlineStore) -> None:
    store.apply(update(end=1, schemas={"shop_sales": 1, "city_sales": 2}))
    store.apply(update(start=1, end=2, schemas={"city_sales": 2}))
    assert store.schema_ids() == {"city_sales": 2}


def test_entities_may_have_any_name(store: OnlineStore) -> None:
    names = ["é", "x" * 100, "y" * 2_000, "y" * 2_001, "v", "p"]
    store.apply(update(*(sale(str(i), shop=name) for i, name in enumerate(names))))
    assert [count(store, name) for name in names] == [1] * 6
    assert store.entities("shop_sales") == 6


def test_a_cleared_store_is_empty(store: OnlineStore) -> None:
    seen_ids = SeenIds(partition=P0, first_offset=0, ids=["a"], known_at_us=np.array([1]))
    newest_us = {P0: START_US}
    store.apply(update(sale("1"), schemas={"shop_sales": 1}, seen=[seen_ids], newest_us=newest_us))
    store.clear()
    test_a_new_store_is_empty(store)


def test_a_replaced_store_holds_the_new_content_and_nothing_else(store: OnlineStore) -> None:
    old = SeenIds(partition=P0, first_offset=0, ids=["1"], known_at_us=np.array([1]))
    new = SeenIds(partition=P1, first_offset=3, ids=["9", "8"], known_at_us=np.array([2, 3]))
    store.apply(update(sale("1"), sale("2", shop="b"), schemas={"old": 1}, seen=[old]))
    store.replace(
        content(
            sale("3", shop="b"),
            sale("4", shop="b"),
            sale("5", shop="x" * 2_000),
            positions={P1: 5},
            seen=[new],
            schemas={"shop_sales": 7},
        )
    )
    assert (count(store), count(store, "b"), count(store, "x" * 2_000)) == (0, 2, 1)
    assert store.positions() == {P1: 5}
    assert store.schema_ids() == {"shop_sales": 7}
    assert store.seen_ids(P0) == []
    assert [s.ids for s in store.seen_ids(P1)] == [["9", "8"]]
    assert (store.entities("shop_sales"), store.entities("city_sales")) == (2, 0)


def test_after_a_replacement_only_an_update_from_the_new_position_succeeds(
    store: OnlineStore,
) -> None:
    store.apply(update(sale("1"), sale("2")))
    store.replace(content(sale("1"), positions={P0: 1}))
    with pytest.raises(OffsetConflict):
        store.apply(update(sale("3"), start=2))
    store.apply(update(sale("2"), sale("3"), start=1))
    assert count(store) == 3


def test_a_failure_while_reading_new_content_leaves_the_old_content(store: OnlineStore) -> None:
    """The content is read before the switch: until then the old values are read and updated."""
    store.apply(update(sale("1")))

    def fails() -> Iterator[tuple[str, list[tuple[bytes, bytes]]]]:
        yield SHOP_SALES.name, [(b"b", b"half")]
        store.apply(update(sale("2"), start=1))
        raise StoreUnavailable("the offline store went away")

    with pytest.raises(StoreUnavailable, match="went away"):
        store.replace(OnlineContent(values=fails(), positions={}, seen=[], schemas={}))
    assert (count(store), count(store, "b")) == (2, 0)
    assert store.positions() == {P0: 2}


def test_pages_give_each_value_of_a_view_once(store: OnlineStore) -> None:
    names = ["", "s\0", *(f"s{n}" for n in range(5)), "y" * 500, "y" * 2_000]
    store.apply(update(*(sale(n, shop=n) for n in names)))
    expected = sorted(v for v in store.get([("shop_sales", [n.encode() for n in names])])[0] if v)
    for limit in (1, 3, 9, 100):
        values: list[bytes] = []
        cursor = b""
        for _ in range(len(names)):
            page = store.page("shop_sales", after=cursor, limit=limit)
            values += page.values
            state_of(SHOP_SALES).verify(page.values, page.entities)
            cursor = page.after
            if not cursor:
                break
        assert (sorted(values), cursor) == (expected, b"")
    assert store.page("none", after=b"", limit=3).values == []


def test_an_entity_may_have_the_name_of_another_view_in_it(store: OnlineStore) -> None:
    """In Redis a pattern for the keys of that view finds it too."""
    store.apply(update(sale("1", shop="}:0:v:other\0x")))
    assert store.entities("other") == 0
    assert store.page("other", after=b"", limit=3).values == []


def _of_another_schema(change: ViewRows) -> ViewRows:
    from dataclasses import replace

    # The same name and rows, but a stored value of the state of another view.
    state = state_of(replace(CITY_SALES, entity=SHOP_SALES.entity))
    return replace(change, state=state)


def test_the_logs_of_positions_are_kept_when_the_content_is_cleared_or_replaced(
    store: OnlineStore,
) -> None:
    assert store.origins() == {}
    old, new = LogOrigin(topic_id="uHh+2/w=="), LogOrigin(topic_id="b", base=500)
    store.set_origins({P0: old})
    store.set_origins({P1: old})
    store.apply(update(sale("1")))
    assert store.origins() == {P0: old, P1: old}
    store.clear()
    assert store.origins() == {P0: old, P1: old}
    store.replace(content(sale("1"), positions={P0: 1}))
    assert store.origins() == {P0: old, P1: old}
    store.replace(content(sale("1"), positions={P0: 1}, origins={P0: new}))
    assert store.origins() == {P0: new, P1: old}
    store.set_origins({})
    assert store.positions() == {P0: 1}

"""State of release 0.1.0 in every online store is adopted without a rebuild."""

import pytest

from features.engine.value_format import ValueFormat, ViewSchemaMismatch, entity_tags
from features.engine.view_states import state_of
from features.errors import StoreReplaced
from features.stores.declared_views import DeclaredViews
from features.stores.ports import DeclaredView, OnlineStore
from infra.clock import SECOND
from tests.support.data.sales import CITY_SALES, SHOP_SALES, START_US, sale
from tests.support.earlier_release import earlier_id, of_release_0_1
from tests.support.stores import P0, content, count, update

VIEWS = (SHOP_SALES, CITY_SALES)
TODAY = {view.name: state_of(view).schema_id for view in VIEWS}


def declared(schema_id: int, **more: object) -> DeclaredView:
    texts = {"eventide": "0.2.0", "python": "3.11.7"}
    parts: dict[str, object] = {"parts": {}, "packages": {}, "read_formulas": {}}
    return DeclaredView(schema_id=schema_id, **{**parts, **texts, **more})  # type: ignore[arg-type]


def test_state_of_0_1_0_is_read_before_a_writer_adopts_it(store: OnlineStore) -> None:
    store.apply(of_release_0_1(update(sale("1"), sale("2")), *VIEWS))
    DeclaredViews(VIEWS).check(store)
    assert count(store) == 2
    assert store.schema_ids() == {view.name: earlier_id(view) for view in VIEWS}


def test_a_writer_adopts_it_once_and_writes_new_ids_only(store: OnlineStore) -> None:
    store.apply(of_release_0_1(update(sale("1"), sale("2")), *VIEWS))
    DeclaredViews(VIEWS).adopt(store)
    assert store.schema_ids() == TODAY
    recorded = store.declarations()
    assert {v: d.schema_id for v, d in recorded.items()} == TODAY
    assert recorded["shop_sales"].adopted == (earlier_id(SHOP_SALES),)

    store.apply(update(sale("3"), sale("4", shop="b"), start=2, schemas=TODAY))
    DeclaredViews(VIEWS).adopt(store)
    assert store.declarations() == recorded
    assert (count(store), count(store, "b")) == (3, 1)
    page = store.page("shop_sales", after=b"", limit=10)
    state_of(SHOP_SALES).verify(page.values, page.entities)


def test_the_values_of_0_1_0_are_compacted_to_values_of_today(store: OnlineStore) -> None:
    store.apply(of_release_0_1(update(*(sale(str(i), i) for i in range(9))), *VIEWS))
    DeclaredViews(VIEWS).adopt(store)
    state = state_of(SHOP_SALES)
    page = store.page("shop_sales", after=b"", limit=10)
    values = state.compact(page.values, page.entities, START_US + SECOND)
    only_today = ValueFormat(state.name, state.columns, state.schema_id)
    assert len(only_today.parse(values, entity_tags(page.entities)).base) > 0


def test_state_of_0_1_0_under_another_python_is_refused_in_a_clear_sentence(
    store: OnlineStore,
) -> None:
    store.apply(of_release_0_1(update(sale("1")), *VIEWS, another_python=True))
    with pytest.raises(ViewSchemaMismatch, match=r"shop_sales.*0\.1\.0.*version of Py") as caught:
        DeclaredViews(VIEWS).adopt(store)
    assert "start ingest once" in str(caught.value.hint)
    assert store.declarations() == {}


def test_what_was_adopted_stays_readable_under_another_python(store: OnlineStore) -> None:
    store.apply(of_release_0_1(update(sale("1"), sale("2")), *VIEWS, another_python=True))
    other = earlier_id(SHOP_SALES, another_python=True), earlier_id(CITY_SALES, another_python=True)
    store.declare(
        {
            view.name: declared(TODAY[view.name], adopted=(adopted,))
            for view, adopted in zip(VIEWS, other, strict=True)
        },
        replacing=store.schema_ids(),
    )
    DeclaredViews(VIEWS).check(store)
    assert count(store) == 2
    DeclaredViews(VIEWS).adopt(store)  # a writer keeps what was adopted before it
    assert store.declarations()["shop_sales"].adopted == other[:1]


def test_a_record_adds_no_view_that_misses_events(store: OnlineStore) -> None:
    store.apply(update(sale("1"), schemas={"shop_sales": 3}))
    shops, cities = declared(4), declared(5)
    store.declare({"shop_sales": shops, "city_sales": cities}, replacing={"shop_sales": 3})
    assert store.schema_ids() == {"shop_sales": 4}
    assert store.declarations() == {"shop_sales": shops, "city_sales": cities}


def test_a_record_is_refused_after_the_store_was_replaced(store: OnlineStore) -> None:
    store.apply(update(sale("1"), schemas={"shop_sales": 3}))
    store.declare({"shop_sales": declared(4)}, replacing={"shop_sales": 3})
    with pytest.raises(StoreReplaced):
        store.declare({"shop_sales": declared(5)}, replacing={"shop_sales": 3})
    store.replace(content(sale("2"), positions={P0: 5}, schemas={"shop_sales": 7}))
    assert store.declarations() == {}
    store.clear()
    assert (store.declarations(), store.schema_ids()) == ({}, {})

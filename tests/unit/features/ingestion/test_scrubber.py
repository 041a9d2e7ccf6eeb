"""Damaged online values are found, whether they are asked for or not."""

from collections.abc import Callable

import pytest

from features.engine.event_rows import view_rows
from features.engine.sorting import UNSET
from features.engine.value_format import CorruptValue
from features.errors import DataNotReady
from features.ingestion import scrubber
from features.ingestion.scrubber import Scrubber
from features.stores.memory import MemoryOnlineStore
from features.stores.ports import OnlineContent, OnlineUpdate
from infra.kafka.partitions import Partition
from tests.support.data.sales import CITY_SALES, SHOP_SALES, SOLD, rows_of, sale

VIEWS = (SHOP_SALES, CITY_SALES)
SHOPS = [b"s%d" % n for n in range(10)]


@pytest.fixture(autouse=True)
def _small_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubber, "VALUES_A_LOOK", 3)


@pytest.fixture
def store() -> MemoryOnlineStore:
    made = MemoryOnlineStore()
    rows = rows_of([sale(str(n), shop=shop.decode()) for n, shop in enumerate(SHOPS)])
    changes = [view_rows(view, rows) for view in VIEWS]
    made.apply(
        OnlineUpdate(
            changes=[c for c in changes if c is not None],
            starts={},
            ends={Partition(SOLD.name, 0): 10},
            compacted_through_us=UNSET,
        )
    )
    return made


def no_rebuild(_: Callable[[str], None]) -> None:
    raise DataNotReady("there is no offline store yet")


def damage(store: MemoryOnlineStore, view: str, entity: bytes) -> None:
    value = bytearray(store._values[view][entity])
    value[-9] ^= 1
    store._values[view][entity] = bytes(value)


@pytest.mark.parametrize("view", VIEWS, ids=lambda v: v.name)
def test_each_value_is_met_once_a_round(store: MemoryOnlineStore, view: object) -> None:
    for entity in list(store._values[view.name]):  # type: ignore[attr-defined]
        care = Scrubber(store, VIEWS, rebuild=no_rebuild)
        whole = dict(store._values[view.name])  # type: ignore[attr-defined]
        damage(store, view.name, entity)  # type: ignore[attr-defined]
        found = 0
        for _ in range(8):  # ten values in threes, of two views
            try:
                care.scan()
            except CorruptValue as error:
                found += len(error.indexes)
        assert found == 1
        store._values[view.name] = whole  # type: ignore[attr-defined]


def test_a_store_without_values_or_views_is_looked_at_in_vain() -> None:
    Scrubber(MemoryOnlineStore(), VIEWS, rebuild=no_rebuild).scan()
    Scrubber(MemoryOnlineStore(), (), rebuild=no_rebuild).scan()


def test_without_an_offline_store_ingest_fills_it_from_the_topics(
    store: MemoryOnlineStore,
) -> None:
    Scrubber(store, VIEWS, rebuild=no_rebuild).repair(lambda _: None)
    assert store.positions() == {}


def test_mending_is_rebuilding(store: MemoryOnlineStore) -> None:
    said: list[str] = []

    def rebuild(on_progress: Callable[[str], None]) -> None:
        on_progress("working")
        store.replace(OnlineContent(values=[], positions={}, seen=[], schemas={}))

    Scrubber(store, VIEWS, rebuild=rebuild).repair(said.append)
    assert said == ["working"]
    assert store.entities(SHOP_SALES.name) == 0

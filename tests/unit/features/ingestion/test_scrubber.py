"""Damaged online values are detected, whether requests read them or not."""

from collections.abc import Callable

import pytest

from features.definitions import View
from features.engine.event_rows import view_rows
from features.engine.sorting import UNSET
from features.engine.value_format import CorruptValue
from features.errors import DataNotReady
from features.ingestion.scrubber import Scrubber
from features.stores.memory import MemoryOnlineStore
from features.stores.ports import OnlineContent, OnlineUpdate
from infra.kafka.partitions import Partition
from tests.support.data.sales import CITY_SALES, SHOP_SALES, SOLD, rows_of, sale

VIEWS = (SHOP_SALES, CITY_SALES)
SHOPS = [b"s%d" % n for n in range(10)]


ROWS = rows_of([sale(str(n), shop=shop.decode()) for n, shop in enumerate(SHOPS)])
CHANGES = [change for view in VIEWS if (change := view_rows(view, ROWS)) is not None]


@pytest.fixture
def store() -> MemoryOnlineStore:
    filled = MemoryOnlineStore()
    filled.apply(
        OnlineUpdate(
            changes=CHANGES,
            starts={},
            ends={Partition(SOLD.name, 0): 10},
            compacted_through_us=UNSET,
        )
    )
    return filled


def no_rebuild(_: Callable[[str], None]) -> None:
    raise DataNotReady("there is no offline store yet")


def values_of(store: MemoryOnlineStore) -> dict[str, dict[bytes, bytes]]:
    """All values of the store, by view and entity."""
    stored = store.get([(change.state.name, change.entities) for change in CHANGES])
    return {
        change.state.name: {
            entity: value
            for entity, value in zip(change.entities, values, strict=True)
            if value is not None
        }
        for change, values in zip(CHANGES, stored, strict=True)
    }


def with_damage(values: dict[str, dict[bytes, bytes]], view: str, entity: bytes) -> OnlineContent:
    """The same values with one flipped bit."""
    damaged = bytearray(values[view][entity])
    damaged[-9] ^= 1
    changed = values | {view: values[view] | {entity: bytes(damaged)}}
    return OnlineContent(
        values=[(name, list(of_view.items())) for name, of_view in changed.items()],
        positions={},
        seen=[],
        schemas={},
    )


@pytest.mark.parametrize("view", VIEWS, ids=lambda v: v.name)
def test_each_value_is_scanned_once_per_round(store: MemoryOnlineStore, view: View) -> None:
    values = values_of(store)
    assert values[view.name]
    for entity in values[view.name]:
        scrubber = Scrubber(store, VIEWS, rebuild=no_rebuild, values_per_scan=3)
        store.replace(with_damage(values, view.name, entity))
        damaged = 0
        for _ in range(8):  # ten values in threes, of two views
            try:
                scrubber.scan()
            except CorruptValue as error:
                damaged += len(error.indexes)
        assert damaged == 1


def test_a_scan_of_a_store_without_values_or_views_does_nothing() -> None:
    Scrubber(MemoryOnlineStore(), VIEWS, rebuild=no_rebuild).scan()
    Scrubber(MemoryOnlineStore(), (), rebuild=no_rebuild).scan()


def test_without_an_offline_store_a_repair_clears_the_online_store(
    store: MemoryOnlineStore,
) -> None:
    Scrubber(store, VIEWS, rebuild=no_rebuild).repair(lambda _: None)
    assert store.positions() == {}


def test_a_repair_rebuilds_the_store(store: MemoryOnlineStore) -> None:
    messages: list[str] = []

    def rebuild(on_progress: Callable[[str], None]) -> None:
        on_progress("working")
        store.replace(OnlineContent(values=[], positions={}, seen=[], schemas={}))

    Scrubber(store, VIEWS, rebuild=rebuild).repair(messages.append)
    assert messages == ["working"]
    assert store.entities(SHOP_SALES.name) == 0

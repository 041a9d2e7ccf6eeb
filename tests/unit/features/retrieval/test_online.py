"""Vectors of live requests."""

from dataclasses import replace
from datetime import timedelta

import msgspec
import numpy as np
import pytest

from features.definitions import Aggregation, Decision, EventType, FeatureService, RequestColumn
from features.engine.value_format import ViewSchemaMismatch
from features.ingestion.compaction_watermark import CompactionWatermark
from features.ingestion.online_sink import OnlineSink
from features.retrieval.online import FeatureReader
from features.stores.memory import MemoryOnlineStore
from infra.clock import SECOND
from infra.kafka.partitions import Partition
from tests.support.data.sales import CITY_SALES, SHOP_SALES, SOLD, START_US, Sold, rows_of, sale


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody asks about a shop."""

    event_id: str
    event_time_us: int
    shop: str
    city: str | None = None
    cents: int = 0
    weight: float | None = None


ASKED = EventType(name="shop.asked", record=Asked, key="shop")
SERVICE = FeatureService(
    name="sales",
    decision=Decision(
        request=ASKED, source=SOLD, entity_id="shop", at=lambda e: e["event_time_us"]
    ),
    request_columns=(
        RequestColumn(name="city", compute=lambda e: e["city"], reads=("city",), category=True),
        RequestColumn(name="weight", compute=lambda e: e["weight"], reads=("weight",)),
        RequestColumn(name="cents", compute=lambda e: e["cents"], reads=("cents",)),
    ),
    views=(SHOP_SALES, CITY_SALES),
)
P = Partition(SOLD.name, 0)


@pytest.fixture
def store() -> MemoryOnlineStore:
    """Two sales in shop a, one in b."""
    made = MemoryOnlineStore()
    writer = OnlineSink(
        made,
        SERVICE.views,
        duplicate_horizon_us=30 * SECOND,
        watermark=CompactionWatermark(least_us=15 * SECOND, most_us=15 * SECOND),
    )
    writer.load([P])
    sales = [sale("1", 0), sale("2", 5), sale("3", 5, shop="b", city="y")]
    writer.write([rows_of(sales)], {P: 3})
    return made


def asked(shop: str, **fields: object) -> Asked:
    return msgspec.convert(
        {"event_id": "r", "event_time_us": START_US, "shop": shop, **fields}, Asked
    )


def test_a_vector_has_the_requests_own_columns_and_those_of_each_view(
    store: MemoryOnlineStore,
) -> None:
    requests = [asked("a", city="x", weight=2.5, cents=7), asked("nobody"), asked("b", city="y")]
    as_of = np.full(3, START_US + 6 * SECOND)
    found = FeatureReader(SERVICE, store).vectors(requests, as_of)

    assert found.categories == {"city": ["x", "", "y"]}
    columns = dict(zip(SERVICE.numbers, found.numbers.T.tolist(), strict=True))
    assert columns["cents"] == [7, 0, 0]
    np.testing.assert_equal(columns["weight"], [2.5, np.nan, np.nan])
    assert columns["shop_sales_count_10s"] == [2, 0, 1]
    assert columns["city_sales_count_10s"] == [2, 0, 1]
    assert found.exact.all()


def test_no_requests_give_an_empty_table(store: MemoryOnlineStore) -> None:
    found = FeatureReader(SERVICE, store).vectors([], np.empty(0, np.int64))
    assert found.numbers.shape == (0, len(SERVICE.numbers))
    assert found.categories == {"city": []}


def test_a_store_without_any_event_answers(store: MemoryOnlineStore) -> None:
    store.clear()
    found = FeatureReader(SERVICE, store).vectors([asked("a")], np.array([START_US]))
    assert found.numbers[0, SERVICE.numbers.index("shop_sales_count_10s")] == 0


def test_a_view_that_the_store_does_not_keep_is_not_answered_with_nothing(
    store: MemoryOnlineStore,
) -> None:
    more = replace(
        CITY_SALES,
        name="new",
        aggregations=(Aggregation(operation="since_last", windows=(timedelta(hours=1),)),),
    )
    reader = FeatureReader(replace(SERVICE, views=(SHOP_SALES, more)), store)
    with pytest.raises(ViewSchemaMismatch, match="new"):
        reader.vectors([asked("a")], np.array([START_US]))


def test_requests_and_history_read_the_same_fields() -> None:
    assert set(SOLD.fields) == set(ASKED.fields) == set(Sold.__struct_fields__)

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


class SalesRequested(msgspec.Struct, frozen=True, kw_only=True):
    """A prediction is requested for a shop."""

    event_id: str
    event_time_us: int
    shop: str
    city: str | None = None
    cents: int = 0
    weight: float | None = None


REQUESTED = EventType(name="shop.asked", record=SalesRequested, key="shop")
SERVICE = FeatureService(
    name="sales",
    decision=Decision(
        request=REQUESTED, source=SOLD, entity_id="shop", at=lambda e: e["event_time_us"]
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
    store = MemoryOnlineStore()
    writer = OnlineSink(
        store,
        SERVICE.views,
        duplicate_horizon_us=30 * SECOND,
        watermark=CompactionWatermark(least_us=15 * SECOND, most_us=15 * SECOND),
    )
    writer.load([P])
    sales = [sale("1", 0), sale("2", 5), sale("3", 5, shop="b", city="y")]
    writer.write([rows_of(sales)], {P: 3})
    return store


def a_request(shop: str, **fields: object) -> SalesRequested:
    return msgspec.convert(
        {"event_id": "r", "event_time_us": START_US, "shop": shop, **fields}, SalesRequested
    )


def test_a_vector_has_the_columns_of_the_request_and_of_each_view(
    store: MemoryOnlineStore,
) -> None:
    requests = [
        a_request("a", city="x", weight=2.5, cents=7),
        a_request("nobody"),
        a_request("b", city="y"),
    ]
    as_of = np.full(3, START_US + 6 * SECOND)
    vectors = FeatureReader(SERVICE, store).vectors(requests, as_of)

    assert vectors.categories == {"city": ["x", "", "y"]}
    columns = dict(zip(SERVICE.numbers, vectors.numbers.T.tolist(), strict=True))
    assert columns["cents"] == [7, 0, 0]
    np.testing.assert_equal(columns["weight"], [2.5, np.nan, np.nan])
    assert columns["shop_sales_count_10s"] == [2, 0, 1]
    assert columns["city_sales_count_10s"] == [2, 0, 1]
    assert vectors.exact.all()


def test_no_requests_give_an_empty_table(store: MemoryOnlineStore) -> None:
    vectors = FeatureReader(SERVICE, store).vectors([], np.empty(0, np.int64))
    assert vectors.numbers.shape == (0, len(SERVICE.numbers))
    assert vectors.categories == {"city": []}


def test_a_store_without_events_gives_empty_features(store: MemoryOnlineStore) -> None:
    store.clear()
    vectors = FeatureReader(SERVICE, store).vectors([a_request("a")], np.array([START_US]))
    assert vectors.numbers[0, SERVICE.numbers.index("shop_sales_count_10s")] == 0


def test_a_view_that_the_store_does_not_maintain_is_refused(
    store: MemoryOnlineStore,
) -> None:
    more = replace(
        CITY_SALES,
        name="new",
        aggregations=(Aggregation(operation="since_last", windows=(timedelta(hours=1),)),),
    )
    reader = FeatureReader(replace(SERVICE, views=(SHOP_SALES, more)), store)
    with pytest.raises(ViewSchemaMismatch, match="new"):
        reader.vectors([a_request("a")], np.array([START_US]))


def test_requests_and_history_read_the_same_fields() -> None:
    assert set(SOLD.fields) == set(REQUESTED.fields) == set(Sold.__struct_fields__)

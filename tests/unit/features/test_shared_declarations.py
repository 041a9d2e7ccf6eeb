"""Views and event types that several domains list: each counts once, and a name means one thing."""

from dataclasses import replace

import pytest

from features.catalog import each_event_once
from features.definitions import Aggregation, Domain, Entity, EventType, FeatureView, View
from features.errors import DeclarationError
from features.ingestion.compaction_watermark import CompactionWatermark
from features.ingestion.online_sink import OnlineSink
from features.maintenance.rebuild import RebuildRules, rebuild
from features.stores.declared_views import DeclaredViews, each_once
from features.stores.memory import MemoryOfflineStore, MemoryOnlineStore
from infra.clock import HOUR
from tests.support.by_hand import an_event, assert_values, column, query, seconds, sent
from tests.support.generated.cases import Case

SOLD = an_event(cents=int)
SALES = FeatureView(
    name="sales",
    source=SOLD,
    entity=Entity(name="shop", keys=("shop",)),
    aggregations=(Aggregation(operation="count", windows=(seconds(100),)),),
)
OTHER = replace(SALES, aggregations=(Aggregation(operation="count", windows=(seconds(9),)),))


def a_case(*views: View) -> Case:
    return Case(
        events=(SOLD, SOLD),
        request=SOLD,
        views=views,
        sent=(sent(SOLD, 1, cents=1), sent(SOLD, 2, cents=1)),
        queries=(query(SOLD, 10, cents=0),),
    )


@pytest.mark.parametrize("again", [SALES, replace(SALES)], ids=["the same", "an equal one"])
def test_a_view_that_is_listed_twice_counts_each_event_once(again: FeatureView) -> None:
    assert_values(a_case(SALES, again), [2])


def test_two_views_of_one_name_are_refused_wherever_a_store_is_opened_with_them() -> None:
    both = (SALES, OTHER)
    watermark = CompactionWatermark(least_us=HOUR, most_us=HOUR)
    rules = RebuildRules(duplicate_horizon_us=HOUR, hold_us=HOUR)
    with pytest.raises(DeclarationError, match="several views are called sales"):
        OnlineSink(MemoryOnlineStore(), both, duplicate_horizon_us=HOUR, watermark=watermark)
    with pytest.raises(DeclarationError, match="several views are called sales"):
        rebuild(
            both,
            [SOLD],
            offline=MemoryOfflineStore(),
            online=MemoryOnlineStore(),
            rules=rules,
            on_progress=lambda _: None,
        )
    for guard in (each_once, DeclaredViews):
        with pytest.raises(DeclarationError, match="several views are called sales"):
            guard(both)


def test_an_event_type_that_several_domains_list_is_one() -> None:
    changed = EventType(name=SOLD.name, record=an_event(city=str).record, key="shop")
    assert each_event_once([SOLD, replace(SOLD)]) == (SOLD,)
    with pytest.raises(DeclarationError, match=r"several event types are called shop\.sold"):
        each_event_once([SOLD, changed])


def test_two_features_of_one_name_are_refused_in_whichever_services_they_stand() -> None:
    window = (seconds(100),)
    last = Aggregation(operation="last", column="cents", windows=window)
    column_of = column("last_cents", lambda e: e["cents"], "cents")
    total = Aggregation(operation="sum", column="last_cents", windows=window)
    views = (
        replace(SALES, name="sales_sum", aggregations=(last,)),
        replace(SALES, aggregations=(total,), columns=(column_of,)),
    )
    assert views[0].features == views[1].features
    with pytest.raises(DeclarationError, match="features of several views are called"):
        Domain(
            name="shop",
            events=(SOLD,),
            views=views,
            services=(),
            labels=(),
            predictions_topic="shop.predictions",
        )

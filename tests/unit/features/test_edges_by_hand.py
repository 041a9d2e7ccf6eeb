"""Edges that a random draw seldom meets: one moment more or less gives another answer."""

from datetime import timedelta

import pytest

from features.definitions import (
    Aggregation,
    Columns,
    Decision,
    Entity,
    FeatureService,
    FeatureView,
    Float64Array,
    ItemValue,
    Label,
    OpenView,
    PreviousView,
)
from features.retrieval.historical import training_rows
from features.stores.memory import MemoryOnlineStore
from tests.support.by_hand import SECOND_US, an_event, assert_values, at, query, seconds, sent
from tests.support.generated.cases import Batch, Case
from tests.support.generated.formulas import at_least, plus
from tests.support.generated.paths import ingested

PLACED = an_event("order.placed", key="order", order=str)
RETURNED = an_event("order.returned", key="order", order=str, late=bool)
SHOP = Entity(name="shop", keys=("shop",))
COUNT = FeatureView(
    name="made",
    source=PLACED,
    entity=SHOP,
    aggregations=(Aggregation(operation="count", windows=(seconds(100),)),),
)


def label_of(*, cutoff: int, known: int, within: timedelta | None) -> int | None:
    """The label of a decision at second 10 whose event is known at a second."""
    service = FeatureService(
        name="made",
        decision=Decision(
            request=PLACED,
            source=PLACED,
            entity_id="order",
            at=plus("event_time_us", 10 * SECOND_US),
        ),
        request_columns=(),
        views=(COUNT,),
    )
    label = Label(
        name="late",
        source=RETURNED,
        entity_id="order",
        value=at_least("late", 1),
        reads=("late",),
        max_wait=seconds(60),
        within=within,
    )
    events = (sent(PLACED, 0, order="o"), sent(RETURNED, 20, known=known, order="o", late=True))
    case = Case(events=(PLACED, RETURNED), request=PLACED, views=(COUNT,), sent=events)
    made = training_rows(
        service,
        label,
        ingested(case, {}).offline,
        start_us=at(0),
        end_us=at(15),
        known_before_us=at(cutoff),
        ready_tolerance_us=10**12,
    )
    values: list[int | None] = made.frame["label"].to_list()
    assert len(values) == 1
    return values[0]


@pytest.mark.parametrize(("cutoff", "label"), [(30, None), (31, 1)])
def test_a_label_known_at_the_cut_off_is_not_known(cutoff: int, label: int | None) -> None:
    assert label_of(cutoff=cutoff, known=30, within=None) == label


@pytest.mark.parametrize(("cutoff", "label"), [(69, None), (70, 1)])
def test_a_label_within_a_span_is_known_after_the_whole_wait(
    cutoff: int, label: int | None
) -> None:
    assert label_of(cutoff=cutoff, known=30, within=seconds(30)) == label


@pytest.mark.parametrize(("known", "label"), [(69, 1), (70, 0)])
def test_what_is_known_after_the_wait_does_not_count(known: int, label: int) -> None:
    assert label_of(cutoff=100, known=known, within=seconds(30)) == label


def test_a_dropped_sighting_counts_as_one_too() -> None:
    first = sent(PLACED, 0, order="o")
    again = [sent(PLACED, 0, known=k, order="o") for k in (20, 40)]
    case = Case(
        events=(PLACED,),
        request=PLACED,
        views=(COUNT,),
        sent=(first, *again),
        queries=(query(PLACED, 50, order=""),),
        horizon_us=30 * SECOND_US,
    )
    assert_values(case, [1])


def test_compaction_keeps_what_lies_at_the_edge_of_the_longest_window() -> None:
    events = [sent(PLACED, second, order=f"o{second}") for second in (0, 100, 100.001)]
    case = Case(
        events=(PLACED,),
        request=PLACED,
        views=(COUNT,),
        sent=(*events[:2], sent(PLACED, 100, order="other")),
        batches=tuple(Batch(size=1) for _ in range(3)),
        queries=(query(PLACED, 100, order=""), query(PLACED, 100.000001, order="")),
        least_us=0,
        most_us=0,
        compaction_slack=0,
    )
    assert "memory" in ingested(case, {"memory": MemoryOnlineStore()}).online
    assert_values(case, [1], [2])


DUE = an_event("flight.due", key="item", item=str, due=int)
HOUR_S, DAY_S = 3_600, 86_400


def test_a_rebuild_keeps_items_that_were_announced_long_before_they_are_due() -> None:
    """The event of an item happens up to `ahead` before the time that the item is about."""
    view = OpenView(
        name="made",
        entity=SHOP,
        item="item",
        opened=DUE,
        due="due",
        closed_by=(),
        reach=timedelta(hours=6),
        ahead=timedelta(hours=48),
        gives=("count",),
    )
    due = at(2 * DAY_S)
    case = Case(
        events=(DUE,),
        request=DUE,
        views=(view,),
        sent=(
            sent(DUE, 60, item="early", due=due),
            sent(DUE, 2 * DAY_S + HOUR_S, item="late", due=due + 9 * HOUR_S * SECOND_US),
        ),
        queries=(query(DUE, 2 * DAY_S + 2 * HOUR_S, item="", due=0),),
        least_us=SECOND_US,
        most_us=SECOND_US,
    )
    assert_values(case, [1])


@pytest.mark.parametrize(("known", "value"), [(29, 7), (30, 5), (31, 5)])
def test_a_previous_item_that_is_known_at_the_very_time_of_the_query_hides_no_other(
    known: int, value: int
) -> None:
    view = PreviousView(
        name="made",
        entity=SHOP,
        item="item",
        opened=DUE,
        order="due",
        before="due",
        reach=seconds(100),
        ahead=seconds(100),
        keeps=((DUE, ("due",)),),
        values=(ItemValue(name="due", meaning="", compute=_seconds_due),),
    )
    case = Case(
        events=(DUE,),
        request=DUE,
        views=(view,),
        sent=(
            sent(DUE, 1, known=10, item="earlier", due=at(5)),
            sent(DUE, 2, known=known, item="later", due=at(7)),
        ),
        queries=(query(DUE, 30, item="", due=at(40)),),
    )
    assert_values(case, [value])


def _seconds_due(item: Columns, _: Columns) -> Float64Array:
    seconds_due: Float64Array = (item["flight.due.due"] - at(0)) / SECOND_US
    return seconds_due

"""Wrong answers about items and calendars: expected to fail until they are corrected."""

from dataclasses import replace
from typing import Any

import pytest

from features.definitions import (
    Aggregation,
    CalendarView,
    Check,
    Entity,
    EventType,
    OpenView,
    PreviousView,
    Span,
)
from features.definitions.lifecycle_views import ItemValue
from features.engine.view_states import state_of
from features.errors import DeclarationError
from tests.support.by_hand import (
    DID_NOT_RAISE,
    SECOND_US,
    an_event,
    assert_values,
    at,
    known_fault,
    query,
    seconds,
    sent,
    values_by_path,
)
from tests.support.generated.cases import Batch, Case

SHOP = Entity(name="shop", keys=("shop",))
HOUR, DAY = 3_600, 86_400
S = 1234567890123456789


def nullify(field: str, holds: Any, *reads: str) -> Check:
    return Check(
        name="believable", holds=holds, reads=reads or (field,), on_failure="nullify", field=field
    )


def _open(opened: EventType, *closed_by: EventType, ahead: int, reach: int = 100) -> OpenView:
    return OpenView(
        name="made",
        entity=SHOP,
        item="item",
        opened=opened,
        due="due_us",
        closed_by=closed_by,
        reach=seconds(reach),
        ahead=seconds(ahead),
        gives=("count",),
    )


@known_fault("history reads back as far as `ahead` says, which nothing enforces for items")
def test_an_item_announced_longer_ahead_than_declared_has_one_answer() -> None:
    planned = an_event(item=str, due_us=int)
    case = Case(
        events=(planned,),
        request=planned,
        views=(_open(planned, ahead=48 * HOUR, reach=24 * HOUR),),
        sent=(
            sent(planned, 0, item="far", due_us=at(5 * DAY)),
            sent(planned, 4 * DAY, item="near", due_us=at(5 * DAY)),
        ),
        queries=(
            query(planned, 5 * DAY + 60, item="", due_us=0),
            query(planned, DAY, item="", due_us=0),
        ),
    )
    found = [v.tolist() for v in values_by_path(case).values()]
    assert all(v == found[0] for v in found)


@known_fault("a second opening of an item counts once the state has dropped the first one")
def test_an_item_that_is_opened_again_keeps_its_first_due_time() -> None:
    planned = an_event(item=str, due_us=int)
    case = Case(
        events=(planned,),
        request=planned,
        views=(_open(planned, ahead=1_000, reach=30),),
        sent=(
            sent(planned, 0, item="x", due_us=at(10)),
            sent(planned, 100, item="y", due_us=at(100)),
            sent(planned, 101, item="z", due_us=at(100)),
            sent(planned, 102, item="x", due_us=at(110)),
        ),
        batches=tuple(Batch(size=1) for _ in range(4)),
        queries=(query(planned, 120, item="", due_us=0),),
        least_us=0,
        most_us=0,
        compaction_slack=0,
    )
    assert_values(case, [2])


@known_fault("only some kinds of views refuse a float as a key", raises=DID_NOT_RAISE)
def test_a_float_key_is_refused_by_every_kind_of_view() -> None:
    planned = an_event(zone=float, item=str, due_us=int)
    zone = Entity(name="zone", keys=("zone",))
    with pytest.raises(DeclarationError):
        state_of(replace(_open(planned, ahead=100), entity=zone))


@known_fault(
    "ids are forgotten after `reach` although a calendar's events may have happened longer ago"
)
def test_a_span_sent_again_counts_once_in_a_calendar() -> None:
    planned = an_event(due_us=int)
    span = Span(
        name="around",
        start=lambda q: q["due_us"] - 10 * SECOND_US,
        end=lambda q: q["due_us"] + 10 * SECOND_US,
        reads=("due_us",),
    )
    view = CalendarView(
        name="made",
        source=planned,
        entity=SHOP,
        at="due_us",
        spans=(span,),
        aggregations=(Aggregation(operation="count"),),
        reach=seconds(20),
        ahead=seconds(1_000),
    )
    first = sent(planned, 0, due_us=at(500))
    case = Case(
        events=(planned,),
        request=planned,
        views=(view,),
        sent=(first, *(sent(planned, n, shop="b", due_us=at(n)) for n in (100, 200)), first),
        batches=tuple(Batch(size=1) for _ in range(4)),
        queries=(query(planned, 490, due_us=at(500)),),
        horizon_us=30 * SECOND_US,
        least_us=0,
        most_us=0,
    )
    assert_values(case, [1])


def test_the_item_before_is_found_by_hand() -> None:
    """Not a known fault: it says how the others are read."""
    planned = an_event(item=str, due_us=int)
    view = PreviousView(
        name="made",
        entity=SHOP,
        item="item",
        opened=planned,
        order="due_us",
        before="due_us",
        reach=seconds(50),
        ahead=seconds(100),
        keeps=((planned, ("due_us",)),),
        values=(ItemValue(name="due", meaning="", compute=lambda i, _: i["shop.sold.due_us"]),),
    )
    case = Case(
        events=(planned,),
        request=planned,
        views=(view,),
        sent=(sent(planned, 1, item="x", due_us=at(15)),),
        queries=(query(planned, 10, item="", due_us=at(20)),),
    )
    assert_values(case, [at(15)])

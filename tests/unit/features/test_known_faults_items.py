"""Wrong answers about items and calendars: expected to fail until they are corrected."""

from dataclasses import replace
from typing import Any

import pytest

from features.definitions import (
    Check,
    Entity,
    EventType,
    OpenView,
)
from features.engine.view_states import state_of
from features.errors import DeclarationError
from tests.support.by_hand import (
    DID_NOT_RAISE,
    an_event,
    assert_values,
    at,
    known_fault,
    query,
    seconds,
    sent,
)
from tests.support.generated.cases import Case

SHOP = Entity(name="shop", keys=("shop",))
HOUR, DAY = 3_600, 86_400
S = 1234567890123456789


def nullify(field: str, holds: Any, *reads: str) -> Check:
    return Check(
        name="believable", holds=holds, reads=reads or (field,), on_failure="nullify", field=field
    )


@known_fault("a check does not nullify the time at which an item is due")
def test_an_item_whose_due_time_is_nullified_is_not_open() -> None:
    sold = an_event(
        item=str, due_us=int, checks=[nullify("due_us", lambda e: e["item"] != "x", "item")]
    )
    view = _open(sold, ahead=100)
    case = Case(
        events=(sold,),
        request=sold,
        views=(view,),
        sent=(sent(sold, 1, item="x", due_us=at(5)),),
        queries=(query(sold, 10, item="", due_us=0),),
    )
    assert_values(case, [0])


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


@known_fault("items whose ids are whole numbers beyond 2^53 are one item")
def test_items_with_wide_numbers_are_told_apart() -> None:
    planned = an_event("item.planned", item=int, due_us=int)
    closed = an_event("item.closed", item=int)
    case = Case(
        events=(planned, closed),
        request=planned,
        views=(_open(planned, closed, ahead=100),),
        sent=(
            *(sent(planned, n, item=S + n, due_us=at(5)) for n in range(4)),
            sent(closed, 4, item=S),
        ),
        queries=(query(planned, 10, item=0, due_us=0),),
    )
    assert_values(case, [3])


@known_fault("only some kinds of views refuse a float as a key", raises=DID_NOT_RAISE)
def test_a_float_key_is_refused_by_every_kind_of_view() -> None:
    planned = an_event(zone=float, item=str, due_us=int)
    zone = Entity(name="zone", keys=("zone",))
    with pytest.raises(DeclarationError):
        state_of(replace(_open(planned, ahead=100), entity=zone))

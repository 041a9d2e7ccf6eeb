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
    known_fault,
    seconds,
)

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


@known_fault("only some kinds of views refuse a float as a key", raises=DID_NOT_RAISE)
def test_a_float_key_is_refused_by_every_kind_of_view() -> None:
    planned = an_event(zone=float, item=str, due_us=int)
    zone = Entity(name="zone", keys=("zone",))
    with pytest.raises(DeclarationError):
        state_of(replace(_open(planned, ahead=100), entity=zone))

"""Ids and codes hold no control characters: terminals and pages would obey them."""

from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from features.contracts.codec import decode
from features.definitions import PRINTABLE, EventType
from features.errors import MalformedEvent

Code = Annotated[str, Meta(max_length=10), PRINTABLE]


class Sold(Struct, frozen=True, kw_only=True):
    event_id: Code
    event_time_us: int
    shop: Code | None = None
    note: str = ""


SOLD = EventType(name="shop.sold", version=1, record=Sold, key="event_id", partitions=1)


def value(**fields: object) -> bytes:
    return msgspec.json.encode({"event_id": "e", "event_time_us": 1, **fields})


@pytest.mark.parametrize("field", ["event_id", "shop"])
@pytest.mark.parametrize("character", ["\x00", "\x07", "\n", "\x1b", "\x7f", "\x9b"])
def test_a_control_character_in_an_id_or_a_code_is_refused(field: str, character: str) -> None:
    with pytest.raises(MalformedEvent, match=field):
        decode(SOLD, value(**{field: f"a{character}b"}))


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=10))
def test_every_other_text_is_read_as_it_is(text: str) -> None:
    assert decode(SOLD, value(event_id=text, shop=text)).shop == text


def test_a_free_text_may_hold_anything() -> None:
    assert decode(SOLD, value(note="a\n\x1b[31m")).note == "a\n\x1b[31m"
    assert decode(SOLD, value(shop=None)).shop is None

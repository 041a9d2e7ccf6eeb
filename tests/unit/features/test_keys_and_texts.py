"""Keys and texts of any content and type: one meaning live, after a rebuild and in history."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.definitions import (
    Aggregation,
    CalendarView,
    Check,
    Decision,
    Entity,
    EventType,
    FeatureService,
    FeatureView,
    ItemValue,
    OpenView,
    PreviousView,
    PythonView,
    RequestColumn,
    Span,
)
from features.engine.columns import encode_keys, entity_keys
from features.engine.digests import digests
from features.engine.request_columns import request_values
from features.engine.view_states import state_of
from features.errors import DeclarationError
from tests.support import by_hand
from tests.support.by_hand import an_event, assert_values, query, seconds, sent
from tests.support.examples import examples
from tests.support.reference.digest import digest

WINDOW = (seconds(100),)
case_of = partial(by_hand.case_of, rebuilt_after=0)
SHOP_AND_CITY = Entity(name="city", keys=("shop", "city"))


def counting(source: EventType, *keys: str, **more: Any) -> FeatureView:
    return FeatureView(
        **{
            "name": "made",
            "source": source,
            "entity": Entity(name="entity", keys=keys),
            "aggregations": (Aggregation(operation="count", windows=WINDOW),),
            **more,
        }
    )


# Keys of several fields


def test_keys_that_hold_the_separator_are_told_apart() -> None:
    sold = an_event(city=str)
    case = case_of(
        counting(sold, "shop", "city"),
        sent(sold, 1, shop="a\x1fb", city="c"),
        queries=[
            query(sold, 10, shop="a", city="b\x1fc"),
            query(sold, 10, shop="a\x1fb", city="c"),
        ],
    )
    assert_values(case, [0], [1])


parts = st.text(st.sampled_from("a\x1f:01\0"), max_size=4)


@examples(200)
@given(st.lists(st.tuples(parts, parts, parts), unique=True, max_size=12))
def test_different_keys_have_different_texts(keys: list[tuple[str, str, str]]) -> None:
    for n in (1, 2, 3):
        entity = Entity(name="made", keys=tuple(f"k{i}" for i in range(n)))
        rows = list(dict.fromkeys(key[:n] for key in keys))
        tuples = {f"k{i}": [row[i] for row in rows] for i in range(n)}
        texts = entity_keys(entity, tuples)
        assert len(set(texts)) == len(rows)
        plain = [row for row in rows if not any("\x1f" in part for part in row)]
        assert all(texts[rows.index(row)] == "\x1f".join(row) for row in plain)


def test_a_key_with_a_null_is_no_entity_and_an_empty_text_is_one() -> None:
    sold = an_event(city=str | None)
    case = case_of(
        counting(sold, "shop", "city"),
        sent(sold, 1, shop="", city=""),
        sent(sold, 2, shop="", city=None),
        queries=[query(sold, 10, shop="", city=""), query(sold, 10, shop="", city=None)],
    )
    assert_values(case, [1], [0])


@pytest.mark.parametrize(
    "shop",
    ["", "a\0", "\0", "x" * 500, "x" * 501, "é" * 400, "\U0001f400", " a", "\x1f", "=", "#", "{a}"],
)
def test_a_key_of_any_text_is_an_entity_of_its_own(shop: str) -> None:
    sold = an_event()
    case = case_of(
        counting(sold, "shop"),
        sent(sold, 1, shop=shop),
        queries=[query(sold, 10, shop=shop), query(sold, 10, shop=f"{shop}y")],
    )
    assert_values(case, [1], [0])


# Types of keys


@pytest.mark.parametrize("keys", [("online",), ("online", "shop"), ("shop", "online")])
def test_a_truth_value_is_one_key_on_every_path(keys: tuple[str, ...]) -> None:
    sold = an_event(online=bool)
    case = case_of(
        counting(sold, *keys),
        sent(sold, 1, online=True),
        sent(sold, 2, online=True),
        sent(sold, 3, online=False),
        queries=[query(sold, 10, online=True), query(sold, 10, online=False)],
    )
    assert_values(case, [2], [1])


@pytest.mark.parametrize("number", [0, -7, 2**63 - 1, -(2**63)])
def test_a_whole_number_is_one_key_on_every_path(number: int) -> None:
    sold = an_event(zone=int | None)
    case = case_of(
        counting(sold, "zone"),
        sent(sold, 1, zone=number),
        sent(sold, 2, zone=None),
        queries=[query(sold, 10, zone=number), query(sold, 10, zone=None)],
    )
    assert_values(case, [1], [0])


ZONED = an_event(zone=float, at_us=int)
BY_ZONE = Entity(name="zone", keys=("zone",))
OF_FLOATS: dict[str, Any] = {
    "FeatureView": lambda: counting(ZONED, "zone"),
    "CalendarView": lambda: CalendarView(
        name="made",
        source=ZONED,
        entity=BY_ZONE,
        at="at_us",
        spans=(Span(name="s", start=_at, end=_at, reads=("at_us",)),),
        aggregations=(Aggregation(operation="count"),),
        reach=seconds(10),
        ahead=seconds(10),
    ),
    "OpenView": lambda: open_view(ZONED, ZONED, entity=BY_ZONE),
    "PreviousView": lambda: previous_view(entity=BY_ZONE),
    "PythonView": lambda: PythonView(
        name="made",
        entity=BY_ZONE,
        keeps=((ZONED, ()),),
        compute=lambda *_: [0.0],
        names=("x",),
        ttl=seconds(10),
    ),
    "OpenView over items": lambda: open_view(ZONED, ZONED, item="zone"),
    "PreviousView over items": lambda: previous_view(item="zone"),
}


def _at(request: Any) -> Any:
    return request["at_us"]


def open_view(opened: EventType, *closed: EventType, **more: Any) -> OpenView:
    return OpenView(
        **{
            "name": "made",
            "entity": Entity(name="shop", keys=("shop",)),
            "item": "event_id",
            "opened": opened,
            "due": "at_us",
            "closed_by": closed,
            "reach": seconds(10),
            "ahead": seconds(10),
            **more,
        }
    )


def previous_view(**more: Any) -> PreviousView:
    return PreviousView(
        **{
            "name": "made",
            "entity": Entity(name="shop", keys=("shop",)),
            "item": "event_id",
            "opened": ZONED,
            "order": "at_us",
            "before": "at_us",
            "reach": seconds(10),
            "ahead": seconds(10),
            "keeps": ((ZONED, ("at_us",)),),
            "values": (ItemValue(name="x", meaning="", compute=lambda i, _: i[ZONED.name]),),
            **more,
        }
    )


@pytest.mark.parametrize("kind", OF_FLOATS)
def test_a_float_identifies_nothing(kind: str) -> None:
    """0.0 and -0.0 are one number and two texts."""
    with pytest.raises(DeclarationError, match=r"'zone' of shop\.sold is a number with a fraction"):
        state_of(OF_FLOATS[kind]())


def test_an_item_has_one_type_in_all_events_of_a_view() -> None:
    opened = an_event("made.opened", item=int, at_us=int)
    closed = an_event("made.closed", item=str)
    with pytest.raises(DeclarationError, match="'item' is a whole number and text in its events"):
        state_of(open_view(opened, closed, item="item"))


def test_values_with_truth_values_in_their_keys_are_of_another_declaration_than_in_0_1() -> None:
    sold, numbered = an_event(online=bool), an_event(online=int)
    by_truth, by_number = (state_of(counting(e, "online")) for e in (sold, numbered))
    assert by_truth.schema_id != by_number.schema_id


# A request and history


PLACED = an_event("order.placed", key="order", order=str, zone=int, size=int | None)


def service(request: EventType, **more: Any) -> FeatureService:
    decision = Decision(
        request=request, source=PLACED, entity_id="order", at=lambda e: e["event_time_us"]
    )
    return FeatureService(
        **{"name": "made", "decision": decision, "request_columns": (), "views": (), **more}
    )


def of_zone(*, category: bool) -> RequestColumn:
    return RequestColumn(
        name="of_zone", compute=lambda e: e["zone"], reads=("zone",), category=category
    )


READS_ZONE: dict[str, Any] = {
    "a key": {"views": (counting(PLACED, "zone"),)},
    "a part of a key": {"views": (counting(PLACED, "shop", "zone"),)},
    "exclude_self": {"views": (counting(PLACED, "shop", exclude_self="zone"),)},
    "a category": {"request_columns": (of_zone(category=True),)},
    "a number": {"request_columns": (of_zone(category=False),)},
}


@pytest.mark.parametrize("kind", [float, str, bool])
@pytest.mark.parametrize("reads", READS_ZONE)
def test_a_request_with_another_type_than_history_is_refused(kind: type, reads: str) -> None:
    request = an_event("order.query", key="order", order=str, zone=kind)
    service(an_event("order.query", key="order", order=str, zone=int), **READS_ZONE[reads])
    with pytest.raises(DeclarationError, match=r"'zone' is .* in order\.query and a"):
        service(request, **READS_ZONE[reads])


@pytest.mark.parametrize("reads", ["exclude_self", "a category", "a number"])
def test_a_computed_number_may_be_null_in_both_or_in_neither(reads: str) -> None:
    """Otherwise one is an array of integers, and the other one of floats: 7 and 7.0."""
    request = an_event("order.query", key="order", order=str, zone=int | None)
    with pytest.raises(DeclarationError, match="may be null in only one of"):
        service(request, **READS_ZONE[reads])


def test_a_key_may_be_null_in_requests_only() -> None:
    service(an_event("order.query", key="order", order=str, zone=int | None), **READS_ZONE["a key"])


def test_a_decided_entity_of_another_type_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"'order' is a whole number in order\.query"):
        service(an_event("order.query", order=int))


def test_a_category_without_a_value_is_empty() -> None:
    column = RequestColumn(name="size", compute=lambda e: e["size"], reads=("size",), category=True)
    made = service(PLACED, request_columns=(column,))
    sizes = {"size": np.array([np.nan, 2.0, -0.0, 1e300])}
    values = request_values(made, sizes, np.zeros(4, np.int64))
    assert values.categories == {"size": ["", "2.0", "-0.0", "1e+300"]}
    texts = {"size": np.array([None, "", "nan", "a\0"], object)}
    assert request_values(made, texts, np.zeros(4, np.int64)).categories == {
        "size": ["", "", "nan", "a\0"]
    }


# Texts


def test_a_nul_at_the_end_makes_another_text() -> None:
    sold = an_event(city=str)
    distinct = (Aggregation(operation="distinct", column="city", windows=WINDOW),)
    case = case_of(
        counting(sold, "shop", aggregations=distinct),
        *(sent(sold, n, city=city) for n, city in enumerate(("x", "x\0", "x\0\0", "", "\0"))),
        queries=[query(sold, 10, city="")],
    )
    assert_values(case, [5])


@examples(200)
@given(st.lists(st.one_of(st.none(), st.text(max_size=40)), max_size=60))
def test_the_digest_is_that_of_one_character_after_the_other(texts: list[str | None]) -> None:
    given_texts = np.empty(len(texts), object)
    given_texts[:] = texts
    expected = [np.iinfo(np.int64).min if t is None else digest(t) for t in texts]
    assert digests(given_texts).tolist() == expected


def test_one_long_text_makes_the_digests_of_others_no_dearer() -> None:
    """Padded to one width these texts would take 8 GB."""
    texts = np.array([*(f"id{n}" for n in range(2_000)), "x" * 1_000_000], object)
    assert len({*digests(texts).tolist()}) == 2_001


def test_keys_are_encoded_once_each() -> None:
    keys, codes = encode_keys(["b", None, "a\0", "b", ""])
    assert keys == [b"b", b"a\0", b""]
    assert codes.tolist() == [0, -1, 1, 0, 2]


def test_a_nullified_text_is_no_value_of_distinct() -> None:
    believed = Check(
        name="believable",
        holds=lambda e: e["city"] != "test",
        reads=("city",),
        on_failure="nullify",
        field="city",
    )
    sold = an_event(city=str, checks=[believed])
    distinct = (Aggregation(operation="distinct", column="city", windows=WINDOW),)
    case = case_of(
        counting(sold, "shop", aggregations=distinct),
        sent(sold, 1, city="x"),
        sent(sold, 2, city="test"),
        queries=[query(sold, 10, city="")],
    )
    assert_values(case, [1])

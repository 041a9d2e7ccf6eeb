"""A field that a check nullifies counts as null everywhere, on every path, whatever its type."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from features.definitions import (
    Aggregation,
    CalendarView,
    Check,
    Decision,
    Entity,
    EventType,
    FeatureService,
    ItemValue,
    Label,
    OpenView,
    PreviousView,
    PythonView,
    RequestColumn,
    Span,
    View,
)
from features.errors import DeclarationError
from features.retrieval.historical import training_rows
from features.retrieval.online import FeatureReader
from features.stores.memory import MemoryOnlineStore
from infra.clock import DAY
from tests.support.by_hand import (
    SECOND_US,
    an_event,
    assert_values,
    at,
    column,
    merged_case,
    nullify,
    of_shop,
    query,
    seconds,
    sent,
)
from tests.support.generated.cases import Case
from tests.support.generated.paths import ingested

SHOP = Entity(name="shop", keys=("shop",))
S = 1234567890123456789
NEVER_MERGED = {"least_us": 10**12, "most_us": 10**12}
SMALL = nullify("cents", lambda e: e["cents"] < 1_000)


def prices(sold: EventType, view: View, *values: Any) -> Case:
    events = (sent(sold, n // 2, cents=c, event_id=f"e{n}") for n, c in enumerate(values))
    return merged_case(view, *events, ask={"cents": values[0]})


def test_a_nullified_whole_number_does_not_count_in_sums() -> None:
    sold = an_event(cents=int, checks=[SMALL])
    price = column("price", lambda e: e["cents"], "cents")
    view = of_shop(sold, ("sum", "price"), ("mean", "price"), ("count", ""), columns=(price,))
    assert_values(prices(sold, view, 100, 200, 5_000), [300, 150, 3])


@pytest.mark.parametrize("merged", [False, True])
def test_events_of_one_time_merge_whether_a_check_nullified_them_or_not(merged: bool) -> None:
    sold = an_event(cents=int, checks=[SMALL])
    price = column("price", lambda e: e["cents"], "cents")
    view = of_shop(sold, ("sum", "price"), ("mean", "price"), columns=(price,))
    events = (sent(sold, 1, cents=c, event_id=f"e{n}") for n, c in enumerate([1, 5_000, 5_000, 2]))
    later = sent(sold, 5, cents=6)  # now the others are merged
    assert_values(
        merged_case(view, *events, later, ask={"cents": 0}, **({} if merged else NEVER_MERGED)),
        [9, 3],
    )


@pytest.mark.parametrize(
    ("type_", "values", "holds"),
    [
        (int, [100, 200, 5_000], lambda e: e["cents"] < 1_000),
        (float, [100.0, 200.0, 5_000.0], lambda e: e["cents"] < 1_000),
        (bool, [False, True, True], lambda e: e["event_time_us"] < at(1)),
        (str, ["100", "200", "5000"], lambda e: e["cents"] != "5000"),
    ],
    ids=["int", "float", "bool", "str"],
)
def test_a_nullified_value_of_any_type_does_not_count_in_rates(
    type_: Any, values: list[Any], holds: Any
) -> None:
    reads = ("event_time_us", "cents")
    sold = an_event(cents=type_, checks=[nullify("cents", holds, *reads)])
    large = column("large", lambda e: e["cents"] == values[1], "cents")
    view = of_shop(sold, ("rate", "large"), ("sum", "large"), columns=(large,))
    assert_values(prices(sold, view, *values), [0.5, 1])


def test_a_formula_decides_about_null_where_the_record_allows_it() -> None:
    """Whether the source or a check makes it null."""
    sold = an_event(cents=int | None, checks=[SMALL])
    missing = column("missing", lambda e: np.isnan(e["cents"]), "cents")
    view = of_shop(sold, ("rate", "missing"), columns=(missing,))
    assert_values(prices(sold, view, 100, None, 5_000, 7), [0.5])


def test_a_formula_never_meets_a_value_that_a_check_disbelieves() -> None:
    sold = an_event(cents=str, checks=[nullify("cents", lambda e: e["cents"] != "free")])
    price = column("price", lambda e: e["cents"].astype(np.int64), "cents")
    view = of_shop(sold, ("sum", "price"), ("mean", "price"), columns=(price,))
    assert_values(prices(sold, view, "100", "free", "50"), [150, 75])


@pytest.mark.parametrize("type_", [int, int | None, float, float | None])
def test_a_nullified_number_is_no_value_of_any_operation(type_: Any) -> None:
    sold = an_event(cents=type_, checks=[SMALL])
    operations = ("min", "max", "last", "first", "change", "distinct")
    view = of_shop(sold, *((o, "cents") for o in operations))
    values = [type_(v) if isinstance(type_, type) else v for v in (100, 200, 200, 5_000, 9_000)]
    # The newest event is one without a value: `last` falls back to no other event.
    assert_values(prices(sold, view, *values), [100, 200, None, 100, None, 2])


def test_a_nullified_text_is_no_value_of_distinct() -> None:
    sold = an_event(cents=str, checks=[nullify("cents", lambda e: e["cents"] != "test")])
    assert_values(prices(sold, of_shop(sold, ("distinct", "cents")), "x", "test", "test"), [1])


@pytest.mark.parametrize(("type_", "wrong"), [(str, "test"), (int, 0), (int | None, 0)])
def test_an_event_whose_key_is_nullified_is_about_no_entity(type_: Any, wrong: Any) -> None:
    sold = an_event(city=type_, checks=[nullify("city", lambda e: e["city"] != wrong)])
    view = of_shop(sold, ("count", ""), entity=Entity(name="city", keys=("city",)))
    assert_values(merged_case(view, sent(sold, 1, city=wrong), ask={"city": wrong}), [0])


def test_an_event_is_about_no_entity_when_one_of_several_keys_is_nullified() -> None:
    sold = an_event(city=int, checks=[nullify("city", lambda e: e["city"] > 0)])
    view = of_shop(sold, ("count", ""), entity=Entity(name="city", keys=("shop", "city")))
    events = (sent(sold, 1, city=0), sent(sold, 2, city=S))
    assert_values(merged_case(view, *events, ask={"city": S}), [1])
    assert_values(merged_case(view, *events, ask={"city": 0}), [0])


def test_a_nullified_field_of_an_event_excludes_it_from_no_query() -> None:
    sold = an_event(order=int, checks=[nullify("order", lambda e: e["order"] > 0)])
    view = of_shop(sold, ("count", ""), exclude_self="order")
    events = (sent(sold, 1, order=0), sent(sold, 2, order=S), sent(sold, 3, order=S + 1))
    assert_values(merged_case(view, *events, ask={"order": S}), [2])


def test_every_check_judges_the_event_as_it_came() -> None:
    sold = an_event(
        a=float,
        b=float,
        c=float,
        checks=[
            nullify("a", lambda e: e["b"] <= 3, "b"),
            nullify("b", lambda e: e["c"] <= 3, "c"),
            nullify("c", lambda e: e["a"] <= 3, "a"),
        ],
    )
    view = of_shop(sold, ("last", "a"), ("last", "b"), ("last", "c"))
    ask = {"a": 0.0, "b": 0.0, "c": 0.0}
    assert_values(merged_case(view, sent(sold, 1, a=7.0, b=1.0, c=1.0), ask=ask), [7, 1, None])
    assert_values(merged_case(view, sent(sold, 1, a=7.0, b=9.0, c=9.0), ask=ask), [None] * 3)


def test_a_check_may_nullify_what_another_check_reads() -> None:
    """Also where the view reads neither field of the other check, as a rebuild does."""
    checks = [nullify("a", lambda e: e["b"] <= 3, "b"), nullify("b", lambda e: e["c"] <= 3, "c")]
    sold = an_event(a=float, b=float, c=float, checks=checks)
    event = sent(sold, 1, a=7.0, b=1.0, c=9.0)
    ask = {"a": 0.0, "b": 0.0, "c": 0.0}
    assert_values(merged_case(of_shop(sold, ("last", "a")), event, ask=ask), [7])


def test_two_checks_may_nullify_one_field() -> None:
    sold = an_event(cents=int, checks=[SMALL, nullify("cents", lambda e: e["cents"] > 0)])
    price = column("price", lambda e: e["cents"], "cents")
    view = of_shop(sold, ("sum", "price"), columns=(price,))
    assert_values(prices(sold, view, 5, -5, 5_000), [5])


def test_a_check_that_fails_on_an_event_nullifies_the_field() -> None:
    holds = lambda e: 100 // np.array([int(v) for v in e["cents"]]) >= 0  # noqa: E731
    sold = an_event(cents=str, checks=[nullify("cents", holds)])
    view = of_shop(sold, ("distinct", "cents"))
    assert_values(prices(sold, view, "5", "five", "6"), [2])


@pytest.mark.parametrize("field", ["event_id", "event_time_us"])
def test_no_check_nullifies_the_id_or_the_time_of_an_event(field: str) -> None:
    with pytest.raises(DeclarationError, match="dead_letter"):
        an_event(cents=int, checks=[nullify(field, lambda e: e["cents"] < 1, "cents")])


def test_an_item_whose_due_time_or_id_is_nullified_is_not_open() -> None:
    for field in ("due_us", "item"):
        sold = an_event(
            item=str, due_us=int, checks=[nullify(field, lambda e: e["item"] != "x", "item")]
        )
        view = OpenView(
            name="made",
            entity=SHOP,
            item="item",
            opened=sold,
            due="due_us",
            closed_by=(),
            reach=seconds(100),
            ahead=seconds(100),
            gives=("count",),
        )
        events = (sent(sold, 1, item=i, due_us=at(5)) for i in "xy")
        assert_values(merged_case(view, *events, ask={"item": "", "due_us": 0}), [1])


def test_an_item_whose_order_is_nullified_comes_before_none() -> None:
    checks = [
        nullify("due_us", lambda e: e["item"] != "x", "item"),
        nullify("kept", lambda e: e["kept"] < 5),
    ]
    planned = an_event(item=str, due_us=int, kept=int, checks=checks)
    view = PreviousView(
        name="made",
        entity=SHOP,
        item="item",
        opened=planned,
        order="due_us",
        before="due_us",
        reach=seconds(50),
        ahead=seconds(100),
        keeps=((planned, ("due_us", "kept")),),
        values=(
            ItemValue(name="due", meaning="", compute=lambda i, _: i["shop.sold.due_us"]),
            ItemValue(name="kept", meaning="", compute=lambda i, _: i["shop.sold.kept"]),
        ),
    )
    events = (
        sent(planned, 1, item="x", due_us=at(15), kept=1),
        sent(planned, 2, item="y", due_us=at(14), kept=9),
    )
    ask = {"item": "", "due_us": at(20), "kept": 0}
    assert_values(merged_case(view, *events, ask=ask), [at(14), None])


def test_an_event_without_a_place_in_the_calendar_does_not_count() -> None:
    checks = [SMALL, nullify("due_us", lambda e: e["due_us"] > 0)]
    planned = an_event(due_us=int, cents=int, checks=checks)
    around = Span(
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
        spans=(around,),
        columns=(column("price", lambda e: e["cents"], "cents"),),
        aggregations=tuple(
            Aggregation(operation=o, column=c)  # type: ignore[arg-type]
            for o, c in (("count", None), ("sum", "price"), ("mean", "price"))
        ),
        reach=timedelta(days=20_000),
        ahead=seconds(1_000),
    )
    events = (
        sent(planned, n, due_us=due, cents=c)
        for n, (due, c) in enumerate([(at(5), 1), (at(6), 2), (at(6), 5_000), (-5, 4)])
    )
    assert_values(merged_case(view, *events, ask={"due_us": at(5), "cents": 0}), [3, 3, 1.5])


def test_a_function_is_given_no_value_that_a_check_nullifies() -> None:
    sold = an_event(cents=int, checks=[SMALL])
    view = PythonView(
        name="made",
        entity=SHOP,
        keeps=((sold, ("cents",)),),
        compute=lambda e, _: [np.nansum(e["shop.sold"]["cents"]), len(e["shop.sold"]["cents"])],
        names=("sum", "events"),
        ttl=seconds(100),
    )
    assert_values(prices(sold, view, 100, 5_000, 200), [300, 3])


def test_a_request_is_checked_online_as_in_history() -> None:
    """Its columns and the keys of its views, by the checks of its own type and of the source."""
    fields: dict[str, Any] = {"order": str, "cents": int, "city": str, "size": int}
    checks = [SMALL, nullify("city", lambda e: e["city"] != "?")]
    placed = an_event("order.placed", key="order", **fields, checks=checks)
    asked = an_event(
        "order.asked", key="order", **fields, checks=[nullify("size", lambda e: e["size"] < 9)]
    )
    of = FeatureService(
        name="made",
        decision=Decision(
            request=asked, source=placed, entity_id="order", at=lambda e: e["event_time_us"] + 5
        ),
        request_columns=(
            RequestColumn(name="size", compute=lambda e: e["size"], reads=("size",), category=True),
            RequestColumn(name="cents", compute=lambda e: e["cents"], reads=("cents",)),
            RequestColumn(name="dear", compute=lambda e: e["cents"] > 500, reads=("cents",)),
        ),
        views=(of_shop(placed, ("count", ""), entity=Entity(name="city", keys=("city",))),),
    )
    values: list[dict[str, Any]] = [
        {"order": "o1", "cents": 5_000, "city": "x", "size": 9},
        {"order": "o2", "cents": 700, "city": "?", "size": 8},
    ]
    case = Case(
        events=(placed,),
        request=asked,
        views=of.views,
        sent=tuple(sent(placed, n, **v) for n, v in enumerate(values)),
    )
    stores = ingested(case, {"memory": MemoryOnlineStore()})
    reported = Label(
        name="dear",
        source=placed,
        entity_id="order",
        value=lambda e: e["event_time_us"] > 0,
        reads=("event_time_us",),
        max_wait=seconds(1),
    )
    frame = training_rows(
        of,
        reported,
        stores.offline,
        start_us=at(0),
        end_us=at(90),
        known_before_us=at(90),
        ready_tolerance_us=DAY,
    ).frame
    made = [list(r) for r in frame.select("size", "cents", "dear", "made_count_100s").rows()]
    requests = [query(asked, n, **v).record for n, v in enumerate(values)]
    times = np.array([at(n) + 5 for n in range(2)])
    vectors = FeatureReader(of, stores.online["memory"]).vectors(requests, times)
    live = [
        [size, *numbers]
        for size, numbers in zip(vectors.categories["size"], vectors.numbers.tolist(), strict=True)
    ]
    np.testing.assert_array_equal(made, live)
    assert repr(live) == repr([["", np.nan, np.nan, 1.0], ["8", 700.0, 1.0, 0.0]])


def test_a_check_that_a_request_cannot_be_judged_by_is_refused() -> None:
    check = nullify("cents", lambda e: e["limit"] > 0, "limit")
    placed = an_event(order=str, cents=int, limit=int, checks=[check])
    asked = an_event("order.asked", order=str, cents=int)
    cents = RequestColumn(name="cents", compute=lambda e: e["cents"], reads=("cents",))
    with pytest.raises(DeclarationError, match=r"nullifies 'cents'.*lack \['limit'\]"):
        FeatureService(
            name="made",
            decision=Decision(
                request=asked, source=placed, entity_id="order", at=lambda e: e["event_time_us"]
            ),
            request_columns=(cents,),
            views=(),
        )


def test_a_decision_without_a_time_or_an_entity_is_no_row() -> None:
    checks = [
        nullify("due_us", lambda e: e["due_us"] > 0),
        nullify("order", lambda e: e["order"] != "?"),
    ]
    placed = an_event(order=str, due_us=int, checks=checks)
    of = FeatureService(
        name="made",
        decision=Decision(
            request=placed, source=placed, entity_id="order", at=lambda e: e["due_us"] + SECOND_US
        ),
        request_columns=(),
        views=(of_shop(placed, ("count", "")),),
    )
    reported = Label(
        name="any",
        source=placed,
        entity_id="order",
        value=lambda e: e["event_time_us"] > 0,
        reads=("event_time_us",),
        max_wait=seconds(1),
    )
    events = (
        sent(placed, n, order=order, due_us=due)
        for n, (order, due) in enumerate([("o1", at(5)), ("o2", -5), ("?", at(5))])
    )
    case = Case(events=(placed,), request=placed, views=of.views, sent=tuple(events))
    frame = training_rows(
        of,
        reported,
        ingested(case, {}).offline,
        start_us=-(10**9),
        end_us=at(90),
        known_before_us=at(90),
        ready_tolerance_us=DAY,
    ).frame
    assert frame["entity_id"].to_list() == ["o1"]


def test_the_checks_of_a_training_set_that_stop_judge_the_event_as_it_came() -> None:
    """A field that is null only for a check breaks the other one all the same."""
    stop = Check(
        name="whole", holds=lambda e: e["cents"] < 5_000, reads=("cents",), on_failure="stop"
    )
    sold = an_event(cents=int, checks=[SMALL, stop])
    price = column("price", lambda e: e["cents"], "cents")
    view = of_shop(sold, ("sum", "price"), columns=(price,))
    assert_values(prices(sold, view, 1, 2_000), [1])

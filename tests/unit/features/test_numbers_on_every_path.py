"""Numbers at the ends of 64 bits, and formulas that fail: exact, or no value, on every path."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any

import numpy as np
import pytest
from msgspec import Meta

from features.definitions import (
    Aggregation,
    CalendarView,
    Decision,
    Entity,
    EventType,
    FeatureService,
    ItemValue,
    OpenView,
    PreviousView,
    PythonView,
    RequestColumn,
    Span,
)
from features.engine.formulas import FAILURES
from features.engine.state_columns import may_have_wide_codes, state_columns
from features.retrieval.online import FeatureReader
from features.stores.memory import MemoryOnlineStore
from tests.support.by_hand import (
    SECOND_US,
    an_event,
    assert_values,
    at,
    column,
    merged_case,
    of_shop,
    query,
    seconds,
    sent,
)
from tests.support.generated.cases import Case

SHOP = Entity(name="shop", keys=("shop",))
S = 1234567890123456789
TOP = 2**63 - 1


def amounts(type_: Any, values: Sequence[Any], *of: tuple[str, str], **more: Any) -> Case:
    """Events of one second, so that they merge; then events of another shop, after which all are
    compacted."""
    sold = an_event(amount=type_)
    view = of_shop(sold, *of, **more)
    own = (sent(sold, 1, amount=v, event_id=f"e{n}") for n, v in enumerate(values))
    others = (sent(sold, 2 + n, shop="b", amount=values[0]) for n in range(2))
    last = sent(sold, 5, amount=values[-1], event_id="last")
    return merged_case(view, *own, *others, last, ask={"amount": values[0]})


def price(compute: Any = lambda e: e["amount"], *, scale: int | None = None) -> Any:
    return (column("price", compute, "amount", scale=scale),)


@pytest.mark.parametrize("type_", [int, int | None])
@pytest.mark.parametrize("first", [0, S, TOP - 3, -(2**63), 2**53 - 1, -(2**53) - 2])
def test_distinct_tells_all_whole_numbers_apart(type_: Any, first: int) -> None:
    values = [first + n for n in range(4)]
    assert_values(amounts(type_, values, ("distinct", "amount")), [4])


def test_distinct_tells_what_a_formula_gives_apart() -> None:
    case = amounts(int, [S, S + 1, S + 2], ("distinct", "price"), columns=price())
    assert_values(case, [3])


@pytest.mark.parametrize("type_", [int, int | None])
@pytest.mark.parametrize("first", [S, -(2**63), TOP - 3])
def test_wide_numbers_exclude_only_their_own_events(type_: Any, first: int) -> None:
    sold = an_event(order=type_)
    view = of_shop(sold, ("count", ""), exclude_self="order")
    events = (sent(sold, n, order=first + n) for n in range(4))
    assert_values(merged_case(view, *events, ask={"order": first}), [3])


@pytest.mark.parametrize("type_", [int, int | None])
@pytest.mark.parametrize("first", [S, -(2**63), TOP - 3])
def test_items_with_wide_numbers_are_told_apart(type_: Any, first: int) -> None:
    planned = an_event("item.planned", item=type_, due_us=int)
    closed = an_event("item.closed", item=type_)
    view = OpenView(
        name="made",
        entity=SHOP,
        item="item",
        opened=planned,
        due="due_us",
        closed_by=(closed,),
        reach=seconds(100),
        ahead=seconds(100),
        gives=("count",),
    )
    events = (sent(planned, n, item=first + n, due_us=at(5)) for n in range(4))
    ask = {"item": 0, "due_us": 0}
    assert_values(merged_case(view, *events, sent(closed, 4, item=first), ask=ask), [3])


def test_of_two_items_of_one_time_that_of_the_larger_number_comes_last() -> None:
    planned = an_event(item=int, due_us=int)
    view = PreviousView(
        name="made",
        entity=SHOP,
        item="item",
        opened=planned,
        order="due_us",
        before="due_us",
        reach=seconds(100),
        ahead=seconds(100),
        keeps=((planned, ("item",)),),
        values=(ItemValue(name="item", meaning="", compute=lambda i, _: i["shop.sold.item"]),),
    )
    for items in ([-(2**63), -5, 7, 2**60], [S - 2**62, 3], [-(2**63), -(2**62)]):
        events = (sent(planned, n, item=i, due_us=at(15)) for n, i in enumerate(items))
        case = merged_case(view, *events, ask={"item": 0, "due_us": at(20)})
        assert_values(case, [float(max(items))])


SMALL_INT = Annotated[int, Meta(ge=-(2**53), le=2**53)]


@pytest.mark.parametrize(
    ("type_", "wide"),
    [
        *((t, ()) for t in (SMALL_INT, SMALL_INT | None, str, float, bool)),
        *((t, ("code:amount",)) for t in (int, int | None, Annotated[int, Meta(ge=0)])),
    ],
)
def test_only_views_that_took_integers_for_floats_have_another_schema(
    type_: Any, wide: tuple[str, ...]
) -> None:
    view = of_shop(an_event(amount=type_), ("distinct", "amount"))
    assert may_have_wide_codes(view.source.record, state_columns(view)) == wide


@pytest.mark.parametrize("type_", [int, int | None])
def test_the_extremes_of_whole_numbers_are_the_nearest_floats(type_: Any) -> None:
    values = [S, TOP, -(2**63), 3]
    operations = ("min", "max", "first", "last")
    case = amounts(type_, values, *((o, "amount") for o in operations))
    assert_values(case, [-(2.0**63), 2.0**63, -(2.0**63), 3])


@pytest.mark.parametrize(
    "values",
    [
        [2**62] * 3,
        [TOP, TOP, -TOP + 1, -5],
        [-(2**62)] * 5,
        [2**62, -(2**62)] * 4,
        [TOP, -TOP + 1] * 3 + [7],
        [1_700_000_000_000_000_000 + n for n in range(9)],  # nanoseconds of today
    ],
)
@pytest.mark.parametrize("rows", [0, 3])
def test_a_sum_never_wraps(values: list[int], rows: int) -> None:
    """It is exact, however rows are merged; the feature is the nearest float64."""
    sold = an_event(amount=int)
    view = of_shop(sold, ("sum", "price"), ("mean", "price"), ("count", ""), columns=price())
    events = [sent(sold, n // 3, amount=v, event_id=f"e{n}") for n, v in enumerate(values)]
    total, n = float(sum(values)), len(values)
    case = merged_case(view, *events, ask={"amount": 0}, compaction_slack=rows)
    assert_values(case, [total, total / n, n])


def test_a_sum_over_a_span_of_a_calendar_never_wraps() -> None:
    planned = an_event(due_us=int, amount=int)
    everything = Span(
        name="all",
        start=lambda q: q["due_us"] - 10 * SECOND_US,
        end=lambda q: q["due_us"] + 10 * SECOND_US,
        reads=("due_us",),
    )
    view = CalendarView(
        name="made",
        source=planned,
        entity=SHOP,
        at="due_us",
        spans=(everything,),
        columns=price(),
        aggregations=tuple(Aggregation(operation=o, column="price") for o in ("sum", "mean")),
        reach=seconds(100),
        ahead=seconds(100),
    )
    events = (sent(planned, n, due_us=at(5), amount=2**62) for n in range(5))
    case = merged_case(view, *events, ask={"due_us": at(5), "amount": 0})
    assert_values(case, [5.0 * 2**62, 2.0**62])


def test_a_scaled_sum_is_exact_beyond_64_bits() -> None:
    case = amounts(float, [1e16] * 3, ("sum", "price"), ("mean", "price"), columns=price(scale=100))
    assert_values(case, [4e16, 1e16])


def test_whole_numbers_with_a_scale_are_exact() -> None:
    wide = 2**53 + 1
    columns = price(scale=1)
    assert_values(
        amounts(int | None, [wide, wide, None], ("sum", "price"), columns=columns), [2.0 * wide]
    )
    case = amounts(int, [wide, wide, wide], ("sum", "price"), columns=price(scale=10))
    assert_values(case, [float(4 * wide * 10) / 10])


@pytest.mark.parametrize("bad", [1e300, -1e300, 1e19, 1.7e308])
def test_a_sum_over_a_value_that_does_not_fit_has_no_value(bad: float) -> None:
    """And it is counted; the other operations have what they have."""
    FAILURES.take()
    of = [("sum", "price"), ("mean", "price"), ("count", "")]
    case = amounts(float, [1.0, bad, 2.0], *of, columns=price(scale=10))
    assert_values(case, [None, None, 4])
    counted = FAILURES.take()
    assert counted["made.price", "no whole number of 64 bits"] > 0


@pytest.mark.parametrize("type_", [int, int | None])
def test_a_scale_rounds_no_whole_number(type_: Any) -> None:
    wide = -(2**62) - 1
    case = amounts(type_, [wide, wide, wide], ("min", "price"), columns=price(scale=10))
    assert_values(case, [float(wide)])


@pytest.mark.parametrize("value", [2**60, -(2**60), TOP, -(2**63)])
def test_a_whole_number_whose_scaled_value_does_not_fit_has_no_sum(value: int) -> None:
    assert_values(amounts(int, [value, 5], ("sum", "price"), columns=price(scale=100)), [None])
    halves = amounts(int, [2**60 // 25, 5], ("sum", "price"), columns=price(scale=100))
    assert_values(halves, [float((2**60 // 25 + 10) * 100) / 100])


@pytest.mark.parametrize("value", [-(2**63), -(2**63) + 1])
def test_a_sum_over_the_least_integers_has_no_value(value: int) -> None:
    """They are the marks of a column; an integer as small is usually a null of its source."""
    assert_values(amounts(int, [value, 5], ("sum", "price"), columns=price()), [None])


def test_a_value_that_fits_no_sum_leaves_other_windows_alone() -> None:
    sold = an_event(amount=float)
    view = of_shop(sold, ("sum", "price"), columns=price(scale=10))
    case = merged_case(
        view, sent(sold, -95, amount=1e300), sent(sold, 1, amount=2.5), ask={"amount": 0.0}
    )
    assert_values(case, [2.5])


@pytest.mark.parametrize(
    ("compute", "wrong"),
    [
        (lambda e: e["amount"] * 3, 2**62),
        (lambda e: e["amount"] + e["amount"], -(2**62) - 1),
        (lambda e: e["amount"] * 10**12, 2**30),
        (lambda e: e["amount"] * e["amount"] // 10**9, 2**40),
        (lambda e: e["amount"] - 2**62, -(2**62) - 5),
        (lambda e: e["amount"] * 4 >= 8, 2**62),
    ],
)
def test_a_formula_that_leaves_64_bits_gives_no_wrapped_number(compute: Any, wrong: int) -> None:
    FAILURES.take()
    case = amounts(int, [1, wrong, 2], ("sum", "price"), columns=price(compute))
    assert_values(case, [None])
    assert FAILURES.take()["made.price", "beyond 64 bits"] > 0


@pytest.mark.parametrize(
    "compute",
    [
        lambda e: e["amount"] % 1_000,
        lambda e: e["amount"] - 1,
        lambda e: (e["amount"] // 7) * 7,
        lambda e: e["amount"] & 255,
        lambda e: e["amount"] == S + 1,
        lambda e: np.clip(e["amount"], 0, 9),
        lambda e: np.where(e["amount"] > S, 1, 0),
    ],
)
def test_a_formula_of_large_numbers_that_stays_in_64_bits_is_exact(compute: Any) -> None:
    values = [S, S + 1, TOP, 5, -S]
    expected = compute({"amount": np.array([*values, values[-1]], np.int64)}).tolist()
    case = amounts(int, values, ("sum", "price"), columns=price(compute))
    assert_values(case, [float(sum(expected))])


def test_a_constant_formula_has_that_value() -> None:
    constant = (column("one", lambda _: 1),)
    assert_values(amounts(int, [1, 2], ("sum", "one"), columns=constant), [3])


def test_the_change_between_extremes_is_infinite_or_missing() -> None:
    inverse = price(lambda e: 1 / e["amount"])
    assert_values(amounts(float, [-1.7e308, 1.7e308], ("change", "amount")), [np.inf])
    assert_values(amounts(float, [0.0, 0.0], ("change", "price"), columns=inverse), [None])


def test_an_infinite_quotient_is_no_value_of_a_sum() -> None:
    inverse = price(lambda e: 1 / e["amount"], scale=100)
    case = amounts(float, [0.0, 4.0], ("sum", "price"), ("last", "price"), columns=inverse)
    assert_values(case, [None, 0.25])


def test_zero_is_one_value() -> None:
    assert_values(amounts(float, [0.0, -0.0], ("distinct", "amount")), [1])
    sold = an_event(weight=float)
    view = of_shop(sold, ("count", ""), exclude_self="weight")
    events = (sent(sold, 1, weight=-0.0), sent(sold, 2, weight=1.0))
    assert_values(merged_case(view, *events, ask={"weight": 0.0}), [1])


def fragile(e: Any) -> Any:
    """Whole numbers; raises for a text that is none."""
    return np.array([int(v) for v in e["amount"].tolist()], np.int64)


def test_a_formula_that_raises_on_an_event_leaves_the_others_alone() -> None:
    """Sums over the event have no value, the other operations pass over it."""
    FAILURES.take()
    of = [(o, "price") for o in ("sum", "mean", "min", "max", "last")]
    case = amounts(str, ["1", "two", "3"], *of, ("count", ""), columns=price(fragile))
    assert_values(case, [None, None, 1, 3, 3, 4])
    assert FAILURES.take()["made.price", "ValueError"] > 0
    assert_values(amounts(str, ["1", "2"], *of, columns=price(fragile)), [5, 5 / 3, 1, 2, 2])


def test_a_formula_with_too_few_values_has_none_there() -> None:
    FAILURES.take()
    short = price(lambda e: e["amount"][e["amount"] != 2])
    case = amounts(int, [1, 2, 4], ("sum", "price"), ("max", "price"), columns=short)
    assert_values(case, [None, 4])
    assert FAILURES.take()["made.price", "not one value a row"] > 0


def test_a_formula_that_gives_no_number_has_none_there() -> None:
    FAILURES.take()
    strange = price(
        lambda e: np.array([{2: "two"}.get(a, a) for a in e["amount"]], object), scale=1
    )
    case = amounts(int, [1, 2, 4], ("sum", "price"), ("max", "price"), columns=strange)
    assert_values(case, [None, 4])
    assert FAILURES.take()["made.price", "not a number"] > 0


def test_a_function_that_fails_for_an_entity_has_no_values_there() -> None:
    FAILURES.take()
    sold = an_event(amount=int)
    view = PythonView(
        name="made",
        entity=SHOP,
        keeps=((sold, ("amount",)),),
        compute=lambda e, _: [1 / int(e["shop.sold"]["amount"].sum()), 1],
        names=("inverse", "one"),
        ttl=seconds(100),
    )
    events = (sent(sold, 1, amount=0), sent(sold, 2, amount=4, shop="b"))
    case = merged_case(view, *events, ask={"amount": 0})
    assert_values(case, [None, None])
    assert FAILURES.take()["made", "ZeroDivisionError"] > 0


def test_a_span_that_fails_for_a_request_has_no_values() -> None:
    planned = an_event(due_us=int, city=str)
    named = Span(
        name="named",
        start=lambda q: np.array([{"a": at(0), "b": at(0)}[c] for c in q["city"]], np.int64),
        end=lambda q: np.array([{"a": at(20), "c": at(0)}[c] for c in q["city"]], np.int64),
        reads=("city",),
    )
    view = CalendarView(
        name="made",
        source=planned,
        entity=SHOP,
        at="due_us",
        spans=(named,),
        aggregations=(Aggregation(operation="count"),),
        reach=seconds(100),
        ahead=seconds(100),
    )
    event = sent(planned, 1, due_us=at(5), city="")
    known = merged_case(view, event, ask={"due_us": at(20), "city": "a"})
    assert_values(known, [1])
    for city in ("b", "c", "?"):
        assert_values(merged_case(view, event, ask={"due_us": at(20), "city": city}), [None])


def test_a_request_column_that_fails_for_a_request_has_no_value_there() -> None:
    placed = an_event("order.placed", order=str, amount=str)

    def service(source: EventType) -> FeatureService:
        return FeatureService(
            name="made",
            decision=Decision(
                request=source, source=source, entity_id="order", at=lambda e: e["event_time_us"]
            ),
            request_columns=(
                RequestColumn(name="amount", compute=fragile, reads=("amount",)),
                RequestColumn(
                    name="code",
                    compute=lambda e: fragile(e) + 1,
                    reads=("amount",),
                    category=True,
                ),
            ),
            views=(of_shop(source, ("count", "")),),
        )

    requests = [query(placed, n, order="o", amount=a).record for n, a in enumerate(["1", "x", "3"])]
    store = MemoryOnlineStore()
    reader = FeatureReader(service(placed), store)
    vectors = reader.vectors(requests, np.array([at(n) for n in range(3)]))
    np.testing.assert_array_equal(vectors.numbers[:, 0], [1, np.nan, 3])
    assert vectors.categories["code"] == ["2", "", "4"]


@pytest.mark.parametrize(
    ("type_", "values", "texts"),
    [
        (int | None, [S, None, 5], [str(S), "", "5"]),
        (int, [S, TOP, -5], [str(S), str(TOP), "-5"]),
        (float | None, [1.5, None, 3.0], ["1.5", "", "3.0"]),
        (str | None, ["a", None, ""], ["a", "", ""]),
    ],
)
def test_a_category_has_every_digit_and_is_empty_without_a_value(
    type_: Any, values: list[Any], texts: list[str]
) -> None:
    placed = an_event("order.placed", order=str, size=type_)
    service = FeatureService(
        name="made",
        decision=Decision(
            request=placed, source=placed, entity_id="order", at=lambda e: e["event_time_us"]
        ),
        request_columns=(
            RequestColumn(name="size", compute=lambda e: e["size"], reads=("size",), category=True),
        ),
        views=(of_shop(placed, ("count", "")),),
    )
    requests = [query(placed, n, order="o", size=v).record for n, v in enumerate(values)]
    reader = FeatureReader(service, MemoryOnlineStore())
    times = np.array([at(n) for n in range(len(values))])
    assert reader.vectors(requests, times).categories["size"] == texts


def test_times_at_the_ends_of_64_bits_are_far_away() -> None:
    planned = an_event(item=str, due_us=int)
    view = OpenView(
        name="made",
        entity=SHOP,
        item="item",
        opened=planned,
        due="due_us",
        closed_by=(),
        reach=timedelta(days=30_000),
        ahead=timedelta(days=30_000),
    )
    far = (TOP, TOP - 1, -(2**63), -TOP, at(4))
    events = (sent(planned, n, item=f"i{n}", due_us=due) for n, due in enumerate(far))
    case = merged_case(view, *events, ask={"item": "", "due_us": 0})
    assert_values(case, [1, 0.1])

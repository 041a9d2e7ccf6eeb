"""What formulas do only when they meet strange values, which no check can foresee: on every path
the row is null or has its value, and the rows beside it keep theirs."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from features.catalog_check.formulas import Batch, Formula, check_formula
from features.definitions import (
    Aggregation,
    CalendarView,
    Decision,
    Entity,
    FeatureService,
    RequestColumn,
    Span,
)
from features.engine.formulas import FAILURES
from features.engine.request_columns import request_values
from features.errors import DeclarationError
from tests.support.by_hand import (
    an_event,
    assert_values,
    at,
    column,
    merged_case,
    nullify,
    of_shop,
    seconds,
    sent,
)
from tests.support.generated.cases import Case

STRANGE = 2222


def case_of(
    type_: Any, values: Sequence[Any], compute: Any, *of: tuple[str, str], scale: int | None = None
) -> Case:
    """Events with these amounts, and a column `price` that is computed of them."""
    sold = an_event(amount=type_)
    price = column("price", compute, "amount", scale=scale)
    events = (sent(sold, n, amount=v, event_id=f"e{n}") for n, v in enumerate(values))
    last = sent(sold, 8, shop="b", amount=values[0])
    view = of_shop(sold, *of, columns=(price,))
    return merged_case(view, *events, last, ask={"amount": values[0]})


def masked(values: Any) -> Any:
    return np.ma.masked_where(values == STRANGE, values)


@pytest.mark.parametrize("type_", [int, float, int | None])
def test_a_masked_value_is_null(type_: Any) -> None:
    for_scale = (("sum", "price"), ("mean", "price"), ("max", "price"), ("last", "price"))
    case = case_of(type_, [1, STRANGE, 3], lambda e: masked(e["amount"]), *for_scale, scale=10)
    assert_values(case, [4, 2, 3, 3])
    case = case_of(type_, [1, 3, STRANGE], lambda e: masked(e["amount"]), *for_scale, scale=10)
    assert_values(case, [4, 2, 3, None])


def test_a_masked_whole_number_is_null_also_where_a_row_fails() -> None:
    def compute(e: Any) -> Any:
        if (e["amount"] == 7).any():
            raise ValueError
        return masked(e["amount"])

    case = case_of(int, [1, STRANGE, 7, 3], compute, ("max", "price"), ("distinct", "price"))
    assert_values(case, [3, 2])


@pytest.mark.parametrize("type_", [np.float16, np.float32, np.longdouble])
def test_numbers_of_few_bits_do_not_overflow_when_they_are_scaled(type_: Any) -> None:
    compute = lambda e: e["amount"].astype(type_)  # noqa: E731
    case = case_of(float, [1000.0, 2000.0], compute, ("sum", "price"), ("max", "price"), scale=100)
    assert_values(case, [3000, 2000])


def test_wide_unsigned_numbers_never_wrap_round() -> None:
    def compute(e: Any) -> Any:
        if (e["amount"] == STRANGE).any():
            raise ValueError
        return e["amount"].astype(np.uint64) + np.uint64(2**63)

    case = case_of(int, [1, STRANGE, 3], compute, ("max", "price"))
    assert_values(case, [2**63 + 3])


def test_objects_are_texts_and_numbers_side_by_side() -> None:
    def compute(e: Any) -> Any:
        given = {1: 1, 2: "1", 3: 1.0, 4: None, 5: np.int64(7), 6: object()}
        return np.array([given[v] for v in e["amount"].tolist()], object)

    FAILURES.take()
    assert_values(case_of(int, [1, 2, 3, 4, 5, 6], compute, ("distinct", "price")), [3])
    assert ("made.price", "not a number") in FAILURES.take()


def raising(error: type[BaseException]) -> Callable[[Any], Any]:
    """A formula that raises where it meets the strange value."""

    def compute(e: Any) -> Any:
        if (e["amount"] == STRANGE).any():
            raise error()
        return e["amount"]

    return compute


class Panic(BaseException):
    """As libraries in other languages raise."""


@pytest.mark.parametrize("error", [SystemExit, MemoryError, RecursionError, StopIteration, Panic])
def test_no_error_of_a_formula_ends_the_process(error: type[BaseException]) -> None:
    case = case_of(int, [1, STRANGE, 3], raising(error), ("count", ""), ("max", "price"))
    FAILURES.take()
    assert_values(case, [3, 3])
    assert ("made.price", error.__name__) in FAILURES.take()


def test_ctrl_c_does() -> None:
    with pytest.raises(KeyboardInterrupt):
        assert_values(case_of(int, [STRANGE], raising(KeyboardInterrupt), ("max", "price")))


@pytest.mark.parametrize("type_", [int, float, int | None])
def test_a_formula_that_writes_into_its_input_changes_nothing_beside_it(type_: Any) -> None:
    def compute(e: Any) -> Any:
        if (e["amount"] == STRANGE).any():
            e["amount"][:] = 0
        return e["amount"]

    of = (("max", "price"), ("max", "amount"), ("last", "amount"))
    assert_values(case_of(type_, [1, STRANGE, 3], compute, *of), [3, STRANGE, 3])


def test_a_formula_that_replaces_its_columns_changes_nothing_beside_it() -> None:
    def compute(e: Any) -> Any:
        amount = e.pop("amount")
        e["amount"] = amount * 0
        return amount

    assert_values(case_of(int, [1, STRANGE, 3], compute, ("sum", "price")), [STRANGE + 4])


@pytest.mark.parametrize("given", [np.nan, None])
def test_a_check_that_gives_no_truth_value_fails(given: Any) -> None:
    def holds(e: Any) -> Any:
        return np.array([given if v == STRANGE else True for v in e["amount"].tolist()], object)

    sold = an_event(amount=int, checks=[nullify("amount", holds, "amount")])
    events = (sent(sold, n, amount=v, event_id=f"e{n}") for n, v in enumerate([1, STRANGE, 3]))
    view = of_shop(sold, ("count", ""), ("max", "amount"))
    assert_values(merged_case(view, *events, ask={"amount": 0}), [3, 3])


@pytest.mark.parametrize("given", ["soon", None, (1, 2), STRANGE])
def test_an_edge_of_a_span_that_is_no_time_leaves_the_span_without_values(given: Any) -> None:
    def edge(q: Any) -> Any:
        return np.array([given] * len(q["due_us"]) + [None], object)[:-1]

    planned = an_event(due_us=int)
    view = CalendarView(
        name="made",
        source=planned,
        entity=Entity(name="shop", keys=("shop",)),
        at="due_us",
        spans=(Span(name="s", start=edge, end=lambda q: q["due_us"], reads=("due_us",)),),
        aggregations=(Aggregation(operation="count"),),
        reach=seconds(100),
        ahead=seconds(100),
    )
    events = (sent(planned, n, due_us=at(15)) for n in range(2))
    case = merged_case(view, *events, ask={"due_us": at(20)})
    assert_values(case, [None])


@pytest.mark.parametrize("scale", [0, -10, 2**62, 10**30])
def test_a_scale_that_cannot_be_computed_with_is_refused(scale: int) -> None:
    with pytest.raises(DeclarationError, match="its scale is"):
        column("price", lambda e: e["amount"], "amount", scale=scale)


def categories(compute: Any, cents: Sequence[int]) -> list[str]:
    """The categories that a request column gives to a model."""
    asked = an_event("shop.asked", cents=int)
    decision = Decision(request=asked, source=asked, entity_id="shop", at=lambda e: e["cents"])
    column_of = RequestColumn(name="q", compute=compute, reads=("cents",), category=True)
    service = FeatureService(name="s", decision=decision, request_columns=(column_of,), views=())
    columns = {"cents": np.array(cents)}
    return request_values(service, columns, np.zeros(len(cents), np.int64)).categories["q"]


def test_a_category_that_is_neither_text_nor_number_is_missing() -> None:
    def compute(q: Any) -> Any:
        given = {1: "a", 2: 7, 3: 7.5, 4: None, 5: object(), 6: (1, 2), 7: np.str_("b")}
        return np.array([given[v] for v in q["cents"].tolist()] + [None], object)[:-1]

    FAILURES.take()
    assert categories(compute, range(1, 8)) == ["a", "7", "7.5", "", "", "", "b"]
    assert FAILURES.take() == {("s.q", "neither text nor number"): 2}


def test_the_check_compares_categories_as_texts() -> None:
    compute = lambda q: np.array([v if v > 5 else 7.5 for v in q["cents"].tolist()])  # noqa: E731
    columns = {"cents": np.array([1, 6, 7])}
    batch = Batch(columns=columns, times=frozenset(), usual=True)
    formula = Formula(who="q", compute=compute, gives="categories", reads=("cents",))
    (mistake,) = check_formula(formula, [batch])
    assert mistake.mistake == "gives 6 for cents=6 alone, and 6.0 among others"

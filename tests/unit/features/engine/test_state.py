"""The online state: which rows are merged, which are dropped, which values are exact."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from features.definitions import Column, FeatureView
from features.engine.numbers import from_sortable, sortable
from features.engine.sorting import UNSET
from features.engine.state import ViewState
from features.engine.value_format import (
    CorruptValue,
    ViewSchemaMismatch,
    compacted_through_us,
    entity_tags,
)
from features.engine.view_states import state_of
from features.engine.window_views import WindowState
from features.errors import DeclarationError
from infra.clock import SECOND
from tests.support.data.orders import ADDED, OVERDUE, PLACED, SPREAD
from tests.support.data.sales import SHOP_SALES, SOLD, START_US, Sale, sale

STATE = state_of(SHOP_SALES)
ENTITY = b"a"
LONGEST_S = 40


def at_us(second: int) -> int:
    return START_US + second * SECOND


def value_of(*sales: Sale, before: bytes | None = None, state: ViewState = STATE) -> bytes:
    events = {
        "event_time_us": np.array([s.happened_us for s in sales]),
        "cents": np.array([s.cents for s in sales], np.int64),
        "weight": np.array([s.weight for s in sales], np.float64),
    }
    rows = state.rows_of(SOLD, events, np.array([s.known_us for s in sales]))
    tags = entity_tags([ENTITY] * len(sales))
    return state.append([before], [state.pack_rows(rows, tags).tobytes()], [ENTITY])[0][0]


def read(value: bytes | None, second: int) -> tuple[dict[str, float], bool]:
    state_values = STATE.read([value], [ENTITY], np.array([0]), np.array([at_us(second)]))
    features = dict(zip(SHOP_SALES.features, state_values.values[0].tolist(), strict=True))
    return {k.removeprefix("shop_sales_"): v for k, v in features.items()}, bool(
        state_values.exact[0]
    )


def test_events_of_one_microsecond_become_one_row() -> None:
    value = value_of(
        sale("1", 5, cents=2), sale("2", 5, cents=3), sale("3", 6, cents=4, weight=0.5)
    )
    compacted = STATE.compact([value], [ENTITY], at_us(10))[0]
    one_row = STATE.compact([value_of(sale("1", 5))], [ENTITY], at_us(10))[0]

    assert len(compacted) == len(one_row) + STATE.format.base_row.itemsize
    assert read(compacted, 10) == read(value, 10)
    assert read(compacted, 10)[0]["sum_cents_10s"] == 9


def test_events_that_no_query_can_reach_are_dropped() -> None:
    value = value_of(sale("1", 0), sale("2", 1))
    within_reach = STATE.compact([value], [ENTITY], at_us(LONGEST_S + 1))[0]
    empty = STATE.compact([value], [ENTITY], at_us(LONGEST_S + 2))[0]

    assert len(within_reach) == len(empty) + STATE.format.base_row.itemsize
    assert len(empty) == len(STATE.empty)


def test_what_became_known_later_stays_in_the_delta_rows() -> None:
    value = STATE.compact([value_of(sale("1", 5, known=20, cents=7))], [ENTITY], at_us(20))[0]
    assert read(value, 20)[0]["count_40s"] == 0
    assert read(value, 21)[0]["count_40s"] == 1


def test_a_query_before_the_compacted_time_is_marked_inexact() -> None:
    value = STATE.compact([value_of(sale("1", 5))], [ENTITY], at_us(10))[0]
    assert read(value, 9)[1] is False
    assert read(value, 10)[1] is True


def test_compacted_through_never_goes_back() -> None:
    value = value_of(sale("1", 5, cents=2))
    compacted = STATE.compact([value], [ENTITY], at_us(10))[0]
    with_more = value_of(sale("2", 4, known=6, cents=3), before=compacted)
    recompacted = STATE.compact([with_more], [ENTITY], at_us(3))[0]

    assert compacted_through_us(recompacted) == at_us(10)
    # Known before the time that is compacted already, so it is merged.
    assert len(recompacted) == len(STATE.empty) + 2 * STATE.format.base_row.itemsize
    assert read(recompacted, 5)[1] is False
    assert read(recompacted, 10)[0]["sum_cents_40s"] == 5


def test_an_event_that_becomes_known_after_compaction_still_counts() -> None:
    compacted = STATE.compact([value_of(sale("1", 5))], [ENTITY], at_us(30))[0]
    late = value_of(sale("2", 6, known=31), before=compacted)
    assert read(late, 31)[0]["count_40s"] == 1
    assert read(late, 32)[0]["count_40s"] == 2


def test_a_value_is_due_for_compaction_only_when_its_delta_rows_have_doubled() -> None:
    rows = value_of(sale("1", 5))[len(STATE.empty) :]
    value, compactions = STATE.empty, []
    for i in range(1_000):
        (value,), due = STATE.append([value], [rows], [ENTITY])
        if due[0]:
            compactions.append(i)
            value = STATE.compact([value], [ENTITY], UNSET)[0]
    assert compactions == [16, 50, 118, 254, 526]


def test_a_missing_value_and_a_missing_entity_give_empty_features() -> None:
    state_values = STATE.read([None], [ENTITY], np.array([0, -1]), np.array([at_us(0), at_us(0)]))
    assert state_values.exact.all()
    nothing = dict(zip(SHOP_SALES.features, state_values.values[0].tolist(), strict=True))
    assert [v for k, v in nothing.items() if "count" in k or "sum" in k] == [0, 0, 0, 0]
    assert np.isnan([v for k, v in nothing.items() if "mean" in k or "last" in k]).all()
    assert np.array_equal(state_values.values[0], state_values.values[1], equal_nan=True)


def test_a_value_of_another_declaration_is_never_served() -> None:
    other_state = state_of(replace(SHOP_SALES, columns=(CHEAPER, SHOP_SALES.columns[1])))
    value = value_of(sale("1", 5))
    with pytest.raises(ViewSchemaMismatch, match="shop_sales") as caught:
        other_state.read([value], [ENTITY], np.array([0]), np.array([at_us(9)]))
    assert "rebuild" in (caught.value.hint or "")
    with pytest.raises(ViewSchemaMismatch):
        other_state.append([value], [b""], [ENTITY])


CHEAPER = Column(name="cents", compute=lambda e: e["cents"] - 1, reads=("cents",))


@pytest.mark.parametrize(
    "view",
    [
        replace(SHOP_SALES, name="other"),
        replace(SHOP_SALES, columns=(CHEAPER, SHOP_SALES.columns[1])),
        replace(SHOP_SALES, aggregations=SHOP_SALES.aggregations[:-2]),
        replace(
            SHOP_SALES,
            aggregations=tuple(
                replace(a, windows=(timedelta(seconds=10), timedelta(seconds=41)))
                for a in SHOP_SALES.aggregations
            ),
        ),
    ],
)
def test_the_schema_id_changes_with_the_stored_meaning(view: FeatureView) -> None:
    assert state_of(view).schema_id != STATE.schema_id


def test_the_schema_id_does_not_depend_on_the_process() -> None:
    assert WindowState(replace(SHOP_SALES)).schema_id == STATE.schema_id


def test_numbers_keep_every_bit_and_their_order() -> None:
    numbers = np.array([-np.inf, -1e300, -1.5, -0.0, 0.0, 5e-324, 2.25, np.inf])
    codes = sortable(numbers)
    assert (np.diff(codes) > 0).all()
    assert from_sortable(codes).tobytes() == numbers.tobytes()
    assert sortable(np.array([np.nan]))[0] == UNSET < codes[0]


def test_a_column_of_floats_is_refused_with_the_reason() -> None:
    column = Column(name="cents", compute=lambda e: e["cents"] / 100, reads=("cents",))
    with pytest.raises(DeclarationError, match="not of whole numbers"):
        state_of(replace(SHOP_SALES, columns=(column, SHOP_SALES.columns[1])))


@pytest.mark.parametrize("compacted", [False, True])
def test_a_flipped_bit_anywhere_is_detected(compacted: bool) -> None:
    value = value_of(*(sale(str(i), i, cents=i) for i in range(4)))
    if compacted:
        value = STATE.compact([value], [ENTITY], at_us(2))[0]
    for at in range(len(value)):
        for bit in (0, 7):
            damaged = bytearray(value)
            damaged[at] ^= 1 << bit
            with pytest.raises(CorruptValue, match="shop_sales"):
                STATE.verify([value, bytes(damaged)], [ENTITY] * 2)


def test_a_damaged_header_is_reported_as_damage_when_rows_are_added() -> None:
    value = value_of(sale("1", 1))
    for at in range(8):
        damaged = bytearray(value)
        damaged[at] ^= 1
        with pytest.raises(CorruptValue):
            STATE.append([value, bytes(damaged)], [b"", b""], [ENTITY] * 2)
    with pytest.raises(CorruptValue):
        STATE.append([value[:7]], [b""], [ENTITY])


@pytest.mark.parametrize("length", [1, 39, 41, -1, -8])
def test_a_truncated_value_is_detected(length: int) -> None:
    value = value_of(sale("1", 1), sale("2", 2))
    with pytest.raises(CorruptValue):
        STATE.read([value[:length]], [ENTITY], np.array([0]), np.array([at_us(9)]))


def test_a_value_of_zeros_is_detected() -> None:
    zeros = bytes(len(value_of(sale("1", 1))))
    with pytest.raises(CorruptValue):
        STATE.read([zeros], [ENTITY], np.array([0]), np.array([at_us(9)]))


def test_the_schema_id_changes_with_a_check_that_nullifies_for_every_kind_of_view() -> None:
    unchecked = replace(PLACED, checks=())
    changed = (
        replace(ADDED, source=unchecked),
        replace(OVERDUE, opened=unchecked),
        replace(SPREAD, keeps=((unchecked, ("cents",)), *SPREAD.keeps[1:])),
    )
    for view, original in zip(changed, (ADDED, OVERDUE, SPREAD), strict=True):
        assert state_of(view).schema_id != state_of(original).schema_id

"""The identity of a view follows its formulas, and says what was changed."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pytest

from features.definitions import (
    Aggregation,
    CalendarView,
    Check,
    Column,
    Entity,
    EventType,
    FeatureView,
    ItemValue,
    PreviousView,
    PythonView,
    Span,
)
from features.engine.value_format import ValueFormat, ViewSchemaMismatch
from features.engine.view_states import state_of
from features.errors import DeclarationError
from features.stores.declared_views import DeclaredViews
from features.stores.memory import MemoryOnlineStore
from features.stores.ports import OnlineUpdate
from infra.kafka.partitions import Partition
from tests.support.by_hand import an_event
from tests.support.made_modules import MadeModules

SHOP = Entity(name="shop", keys=("shop",))
SOLD = an_event(cents=int, city=str, key="shop")


def of_column(compute: Callable[..., Any], read: str = "cents", event: Any = SOLD) -> FeatureView:
    return FeatureView(
        name="made",
        source=event,
        entity=SHOP,
        columns=(Column(name="c", compute=compute, reads=(read,)),),
        aggregations=(Aggregation(operation="sum", column="c", windows=(timedelta(seconds=100),)),),
    )


def schema_id(view: Any) -> int:
    return state_of(view).schema_id


def stored_under(view: Any) -> MemoryOnlineStore:
    """A store that a writer with this declaration has filled."""
    store, declared = MemoryOnlineStore(), DeclaredViews([view])
    declared.adopt(store)
    apply_empty(store, declared.schema_ids)
    return store


def apply_empty(store: MemoryOnlineStore, schemas: Mapping[str, int]) -> None:
    """An update without rows, by a writer that maintains the views under these ids."""
    partition = Partition("shop.sold", 0)
    store.apply(
        OnlineUpdate(
            changes=(),
            starts={partition: 0},
            ends={partition: 1},
            compacted_through_us=0,
            schemas=schemas,
        )
    )


_SET_LITERAL = """
from dataclasses import replace
from features.catalog.flights.views import ALL
from features.engine.view_states import state_of
import numpy as np
view = next(v for v in ALL if v.name == "origin_departures")
in_set = lambda e: np.array([c in {"x", "y", "z"} for c in e["carrier"]], bool)
column = replace(view.columns[0], compute=in_set, reads=("carrier",))
print(state_of(replace(view, columns=(column, *view.columns[1:]))).schema_id)
"""


def test_a_set_in_a_formula_gives_the_same_id_in_every_process() -> None:
    ids = {
        subprocess.run(
            [sys.executable, "-c", _SET_LITERAL],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2", "3", "4")
    }
    assert len(ids) == 1


class _Times:
    """A formula that is an object."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, e: Any) -> Any:
        return e["cents"] * self.factor


def _times(factor: int, e: Any) -> Any:
    return e["cents"] * factor


def _made_again() -> Callable[..., Any]:
    """A function with the code of `_times`, as another process has it at another address."""
    return FunctionType(_times.__code__, globals(), "_times")


@pytest.mark.parametrize(
    "make",
    [_Times, lambda factor: partial(_made_again(), factor)],
    ids=["object", "partial"],
)
def test_a_callable_object_counts_by_its_state(make: Callable[[int], Any]) -> None:
    kept = [make(2), make(2), make(3)]
    twice, again, thrice = (schema_id(of_column(compute)) for compute in kept)
    assert twice == again != thrice


def test_a_changed_constant_of_code_without_source_gives_another_id() -> None:
    ids = set()
    for bound in (3, 4):
        names: dict[str, Any] = {"BOUND": bound}
        exec("def large(e):\n    return e['cents'] >= BOUND\n", names)
        ids.add(schema_id(of_column(names["large"])))
    assert len(ids) == 2


def test_a_changed_constant_is_refused_by_its_name(tmp_path: Path) -> None:
    made = MadeModules(tmp_path)
    source = "BOUND = {}\ndef is_large(x): return x >= BOUND\nc = lambda e: is_large(e['cents'])"
    store = stored_under(of_column(made(source.format(3), name="made_limits").c))
    changed = of_column(made(source.format(4), name="made_limits").c)
    with pytest.raises(ViewSchemaMismatch) as caught:
        DeclaredViews([changed]).check(store)
    sentence = str(caught.value)
    assert "view made" in sentence
    assert "the formula of 'c' (changed)" in sentence
    assert "made_limits.BOUND (3 then, 4 now)" in sentence
    assert "is_large" not in sentence


def test_a_changed_helper_and_setting_are_named(tmp_path: Path) -> None:
    made = MadeModules(tmp_path)
    source = "def cost(x): return x {} 1\nc = lambda e: cost(e['cents'])"
    before = of_column(made(source.format("+"), name="made_costs").c)
    store = stored_under(before)
    after = of_column(made(source.format("-"), name="made_costs").c)
    with pytest.raises(ViewSchemaMismatch, match=r"made_costs\.cost \(changed\)"):
        DeclaredViews([after]).check(store)
    longer = replace(before, ttl=timedelta(days=9))
    with pytest.raises(ViewSchemaMismatch, match=r"its reach \(changed\)"):
        DeclaredViews([longer]).check(store)


def test_a_field_that_may_now_be_null_is_another_declaration() -> None:
    """A null is stored as another number than those of before."""
    nullable = an_event(cents=int | None, city=str, key="shop")
    assert nullable.name == SOLD.name

    def view(event: EventType) -> PythonView:
        return PythonView(
            name="made",
            entity=SHOP,
            keeps=((event, ("cents",)),),
            compute=lambda events, _: [len(events)],
            names=("n",),
            ttl=timedelta(seconds=10),
        )

    store = stored_under(view(SOLD))
    with pytest.raises(ViewSchemaMismatch, match=r"the types of its fields \(changed\)"):
        DeclaredViews([view(nullable)]).check(store)


def test_a_field_that_a_view_does_not_read_is_no_part_of_it() -> None:
    more = an_event(cents=int, city=str, added=str, key="shop")
    assert schema_id(of_column(_cents, event=more)) == schema_id(of_column(_cents))


def test_what_has_no_identity_is_refused_with_the_view_and_the_formula(tmp_path: Path) -> None:
    made = MadeModules(tmp_path)
    module = made("import itertools\nN = itertools.count()\nc = lambda e: e['cents'] + next(N)")
    with pytest.raises(DeclarationError, match=r"view made, the formula of 'c' -> N: .*count"):
        state_of(of_column(module.c))


def test_the_formula_of_a_check_counts() -> None:
    def checked(limit: int) -> FeatureView:
        check = Check(
            name="not too much",
            holds=lambda e: e["price"] <= limit,
            reads=("price",),
            on_failure="nullify",
            field="price",
        )
        event = an_event(price=float, cents=int, key="shop")
        view = of_column(_cents, event=event)
        return replace(view, source=replace(event, checks=(check,)))

    assert schema_id(checked(3)) != schema_id(checked(4))
    assert schema_id(checked(3)) == schema_id(checked(3))


def test_a_formula_that_is_computed_when_features_are_read_changes_no_stored_value() -> None:
    def view(factor: int) -> PreviousView:
        return PreviousView(
            name="made",
            entity=SHOP,
            item="event_id",
            opened=SOLD,
            order="cents",
            before="cents",
            reach=timedelta(seconds=10),
            ahead=timedelta(seconds=10),
            keeps=((SOLD, ("cents",)),),
            values=(
                ItemValue(
                    name="c",
                    meaning="",
                    compute=lambda item, _: item["shop.sold.cents"] * np.float64(factor),
                ),
            ),
        )

    one, two = state_of(view(1)).identity, state_of(view(2)).identity
    assert one.schema_id == two.schema_id
    assert one.read_formulas.keys() == {"the value 'c'"}
    assert one.read_formulas != two.read_formulas


def test_installed_packages_are_recorded_with_their_versions_and_do_not_count() -> None:
    identity = state_of(of_column(lambda e: np.abs(e["cents"]))).identity
    assert identity.packages == {"numpy": np.__version__}


def _cents(e: Any) -> Any:
    return e["cents"]


def test_values_of_a_rule_that_left_out_a_limit_are_adopted() -> None:
    view = CalendarView(
        name="made",
        source=SOLD,
        entity=SHOP,
        at="cents",
        spans=(
            Span(
                name="day",
                start=lambda r: r["as_of_us"],
                end=lambda r: r["as_of_us"] + 1,
                reads=("as_of_us",),
            ),
        ),
        aggregations=(Aggregation(operation="count"),),
        reach=timedelta(hours=1),
        ahead=timedelta(hours=1),
    )
    state = state_of(view)
    _, without_ahead = state.identity.earlier_ids
    written = ValueFormat(view.name, state.columns, without_ahead).empty
    assert not state.are_due([written], [b"a"]).any()

    store = MemoryOnlineStore()
    apply_empty(store, {"made": without_ahead})
    DeclaredViews([view]).adopt(store)
    assert store.schema_ids() == {"made": state.schema_id}
    assert store.declarations()["made"].adopted == (without_ahead,)

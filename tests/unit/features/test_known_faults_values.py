"""Wrong values of views, each with the right value: expected to fail until they are corrected.

A test here that begins to pass loses its mark, and its class leaves `Exclusions`.
"""

from typing import Any

import numpy as np

from features.definitions import (
    Aggregation,
    Check,
    Column,
    Entity,
    EventType,
    FeatureView,
)
from features.errors import DeclarationError
from features.stores.memory import MemoryOnlineStore
from tests.support.by_hand import (
    an_event,
    assert_values,
    known_fault,
    query,
    seconds,
    sent,
    values_by_path,
)
from tests.support.generated.cases import Batch, Case
from tests.support.generated.paths import ingested, online_values

SHOP = Entity(name="shop", keys=("shop",))
S = 1234567890123456789


def counted(event: EventType, *of: tuple[str, str], **more: Any) -> FeatureView:
    """A view with `operation of column` over 100 seconds for each of `of`."""
    return FeatureView(
        name="made",
        source=event,
        entity=more.pop("entity", SHOP),
        aggregations=tuple(
            Aggregation(operation=o, column=c or None, windows=(seconds(100),))  # type: ignore[arg-type]
            for o, c in of
        ),
        **more,
    )


def column(name: str, compute: Any, *reads: str, scale: int | None = None) -> Column:
    return Column(name=name, compute=compute, reads=reads, scale=scale)


def nullify(field: str, holds: Any, *reads: str) -> Check:
    return Check(
        name="believable", holds=holds, reads=reads or (field,), on_failure="nullify", field=field
    )


@known_fault(
    "a nullified whole number becomes the smallest number of 64 bits in sums", raises=RuntimeWarning
)
def test_a_nullified_whole_number_does_not_count_in_sums() -> None:
    sold = an_event(cents=int, checks=[nullify("cents", lambda e: e["cents"] < 1_000)])
    view = counted(
        sold,
        ("sum", "price"),
        ("mean", "price"),
        columns=(column("price", lambda e: e["cents"], "cents"),),
    )
    assert_values(_three_prices(sold, view), [300, 150])


@known_fault(
    "a nullified whole number counts in a rate, as one for which the condition does not hold"
)
def test_a_nullified_whole_number_does_not_count_in_rates() -> None:
    sold = an_event(cents=int, checks=[nullify("cents", lambda e: e["cents"] < 1_000)])
    large = column("large", lambda e: e["cents"] >= 150, "cents")
    view = counted(sold, ("rate", "large"), columns=(large,))
    assert_values(_three_prices(sold, view), [0.5])


def _three_prices(sold: EventType, view: FeatureView) -> Case:
    prices = [100, 200, 5_000]
    return Case(
        events=(sold,),
        request=sold,
        views=(view,),
        sent=tuple(sent(sold, n, cents=c) for n, c in enumerate(prices)),
        queries=(query(sold, 10, cents=0),),
    )


@known_fault("a check does not nullify the key of an entity")
def test_an_event_whose_key_is_nullified_is_about_no_entity() -> None:
    sold = an_event(city=str, checks=[nullify("city", lambda e: e["city"] != "test")])
    case = Case(
        events=(sold,),
        request=sold,
        views=(counted(sold, ("count", ""), entity=Entity(name="city", keys=("city",))),),
        sent=(sent(sold, 1, city="test"),),
        queries=(query(sold, 10, city="test"),),
    )
    assert_values(case, [0])


@known_fault(
    "ingest raises KeyError when a check nullifies a field that another nullifying check reads",
    raises=KeyError,
)
def test_a_check_may_nullify_what_another_check_reads() -> None:
    sold = an_event(
        a=float,
        b=float,
        c=float,
        checks=[
            nullify("a", lambda e: e["b"] <= 3, "b"),
            nullify("b", lambda e: e["c"] <= 3, "c"),
        ],
    )
    case = Case(
        events=(sold,),
        request=sold,
        views=(counted(sold, ("last", "a")),),
        sent=(sent(sold, 1, a=7.0, b=1.0, c=1.0),),
        queries=(query(sold, 10, a=0.0, b=0.0, c=0.0),),
    )
    assert_values(case, [7])


@known_fault("`distinct` tells whole numbers apart only up to 2^53")
def test_distinct_counts_wide_numbers() -> None:
    sold = an_event(customer=int)
    case = Case(
        events=(sold,),
        request=sold,
        views=(counted(sold, ("distinct", "customer")),),
        sent=tuple(sent(sold, n, customer=S + n) for n in range(4)),
        queries=(query(sold, 10, customer=0),),
    )
    assert_values(case, [4])


@known_fault("`exclude_self` excludes other events whose number is beyond 2^53 and near")
def test_wide_numbers_exclude_only_their_own_events() -> None:
    sold = an_event(order=int)
    case = Case(
        events=(sold,),
        request=sold,
        views=(counted(sold, ("count", ""), exclude_self="order"),),
        sent=tuple(sent(sold, n, order=S + n) for n in range(4)),
        queries=(query(sold, 10, order=S),),
    )
    assert_values(case, [3])


@known_fault("a sum beyond 64 bits wraps round")
def test_a_sum_never_wraps() -> None:
    sold = an_event(cents=int)
    price = column("price", lambda e: e["cents"], "cents")
    _assert_refused_or_not_wrapped(sold, counted(sold, ("sum", "price"), columns=(price,)), 2**62)


@known_fault(
    "a value times its scale that is beyond 64 bits becomes the smallest number of 64 bits",
    raises=RuntimeWarning,
)
def test_a_scaled_value_never_wraps() -> None:
    sold = an_event(cents=float)
    price = column("price", lambda e: e["cents"], "cents", scale=10)
    _assert_refused_or_not_wrapped(sold, counted(sold, ("sum", "price"), columns=(price,)), 1e300)


def _assert_refused_or_not_wrapped(sold: EventType, view: FeatureView, value: float) -> None:
    case = Case(
        events=(sold,),
        request=sold,
        views=(view,),
        sent=tuple(sent(sold, n, cents=value) for n in range(3)),
        queries=(query(sold, 10, cents=value),),
    )
    try:
        found = np.concatenate(list(values_by_path(case).values()))
    except DeclarationError:
        return
    assert (np.isnan(found) | (found > 0)).all()


@known_fault("-0.0 and 0.0 are two values of `distinct`")
def test_zero_is_one_value_of_distinct() -> None:
    sold = an_event(weight=float)
    case = Case(
        events=(sold,),
        request=sold,
        views=(counted(sold, ("distinct", "weight")),),
        sent=(sent(sold, 1, weight=0.0), sent(sold, 2, weight=-0.0)),
        queries=(query(sold, 10, weight=0.0),),
    )
    assert_values(case, [1])


@known_fault("one view that is listed twice counts every event twice")
def test_a_view_that_is_listed_twice_counts_once() -> None:
    sold = an_event()
    view = counted(sold, ("count", ""))
    case = Case(
        events=(sold,),
        request=sold,
        views=(view, view),
        sent=(sent(sold, 1),),
        queries=(query(sold, 10),),
    )
    assert_values(case, [1])


@known_fault("a rebuild counts an event twice that was sent again with a time of the day before")
def test_an_event_sent_again_with_an_earlier_time_counts_once_in_a_rebuild() -> None:
    sold = an_event()
    case = Case(
        events=(sold,),
        request=sold,
        views=(counted(sold, ("count", "")),),
        sent=(
            sent(sold, 10, event_id="one"),
            sent(sold, -10, known=20, event_id="one"),  # the day begins at second 0
        ),
        queries=(query(sold, 50),),
    )
    assert_values(case, [1])


@known_fault("a value that was not compacted says that it is exact after an id was forgotten")
def test_an_event_that_is_replayed_when_its_id_is_forgotten_counts_once() -> None:
    sold = an_event()
    first = sent(sold, 0)
    case = Case(
        events=(sold,),
        request=sold,
        views=(counted(sold, ("count", "")),),
        sent=(first, *(sent(sold, n, shop="b") for n in (150, 300)), first),
        batches=tuple(Batch(size=1) for _ in range(4)),
        queries=(query(sold, 50),),
        horizon_us=30_000_000,
        least_us=0,
        most_us=0,
        compaction_slack=50,
    )
    store = ingested(case, {"memory": MemoryOnlineStore()}).online["memory"]
    read = online_values(case, case.views[0], store)
    assert read.values[0, 0] == 1 or not read.exact[0]

"""Wrong values of views, each with the right value: expected to fail until they are corrected.

A test here that begins to pass loses its mark, and its class leaves `Exclusions`.
"""

from typing import Any

from features.definitions import (
    Aggregation,
    Check,
    Column,
    Entity,
    EventType,
    FeatureView,
    TimeWindow,
)
from features.stores.memory import MemoryOnlineStore
from tests.support.by_hand import (
    an_event,
    assert_values,
    known_fault,
    query,
    seconds,
    sent,
)
from tests.support.generated.cases import Batch, Case
from tests.support.generated.paths import ingested, online_values

SHOP = Entity(name="shop", keys=("shop",))
HOUR, DAY = 3_600, 86_400
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


@known_fault("a row is moved to the hop of a short window although a longer window has a finer one")
def test_a_longer_window_with_a_finer_hop_keeps_its_edge() -> None:
    sold = an_event()
    view = FeatureView(
        name="made",
        source=sold,
        entity=SHOP,
        aggregations=(
            Aggregation(
                operation="count",
                windows=(TimeWindow(length=seconds(HOUR), hop=seconds(HOUR)), seconds(DAY)),
            ),
        ),
    )
    morning = 10 * HOUR
    case = Case(
        events=(sold,),
        request=sold,
        views=(view,),
        sent=(sent(sold, morning + 1_800), sent(sold, morning + 2_400)),
        batches=(Batch(size=1), Batch(size=1)),
        queries=(query(sold, DAY + morning + 900),),
        least_us=0,
        most_us=0,
        compaction_slack=0,
    )
    assert_values(case, [0, 2])


@known_fault("texts that differ in a NUL at their end are one value")
def test_a_nul_at_the_end_makes_another_text() -> None:
    sold = an_event(city=str)
    case = Case(
        events=(sold,),
        request=sold,
        views=(counted(sold, ("distinct", "city")),),
        sent=(sent(sold, 1, city="x"), sent(sold, 2, city="x\0")),
        queries=(query(sold, 10, city=""),),
    )
    assert_values(case, [2])


@known_fault("a truth value as a key is another text live than in history")
def test_a_truth_value_is_one_key_on_every_path() -> None:
    sold = an_event(online=bool)
    view = counted(sold, ("count", ""), entity=Entity(name="online", keys=("online", "shop")))
    case = Case(
        events=(sold,),
        request=sold,
        views=(view,),
        sent=(sent(sold, 1, online=True),),
        batches=(Batch(size=1, rebuilds=True),),
        queries=(query(sold, 10, online=True),),
    )
    assert_values(case, [1])


@known_fault("keys of several fields are joined by a character that they may hold")
def test_keys_that_hold_the_separator_are_told_apart() -> None:
    sold = an_event(city=str)
    view = counted(sold, ("count", ""), entity=Entity(name="city", keys=("shop", "city")))
    case = Case(
        events=(sold,),
        request=sold,
        views=(view,),
        sent=(sent(sold, 1, shop="a\x1fb", city="c"),),
        queries=(query(sold, 10, shop="a", city="b\x1fc"),),
    )
    assert_values(case, [0])


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

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

"""Events that are sent again, as they were or changed: each counts once, on every path."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from features.definitions import (
    Aggregation,
    CalendarView,
    Entity,
    FeatureView,
    OpenView,
    PythonView,
    Span,
    View,
)
from features.retrieval.event_log import EventLog
from features.stores.memory import MemoryOfflineStore, MemoryOnlineStore
from tests.support.by_hand import SECOND_US, an_event, assert_values, at, query, seconds, sent
from tests.support.generated.cases import Batch, Case, Sent
from tests.support.generated.paths import ingested, online_values

SHOP = Entity(name="shop", keys=("shop",))
SOLD = an_event(key="event_id", item=str, due_us=int)
COUNT = (Aggregation(operation="count"),)
DAY = 86_400
WHENEVER = Span(
    name="whenever",
    start=lambda q: q["due_us"] - 60 * DAY * SECOND_US,
    end=lambda q: q["due_us"] + 60 * DAY * SECOND_US,
    reads=("due_us",),
)


def views(reach: int = 100, ahead: int = 1_000) -> list[View]:
    """Each counts the events, or the items, of the last `reach` seconds."""
    window = seconds(reach)
    return [
        FeatureView(
            name="windows",
            source=SOLD,
            entity=SHOP,
            aggregations=(Aggregation(operation="count", windows=(window,)),),
        ),
        CalendarView(
            name="calendar",
            source=SOLD,
            entity=SHOP,
            at="due_us",
            spans=(WHENEVER,),
            aggregations=COUNT,
            reach=seconds(90 * DAY),
            ahead=seconds(ahead),
        ),
        OpenView(
            name="open",
            entity=SHOP,
            item="event_id",
            opened=SOLD,
            due="event_time_us",
            closed_by=(),
            reach=window,
            ahead=seconds(ahead),
            gives=("count",),
        ),
        PythonView(
            name="function",
            entity=SHOP,
            keeps=((SOLD, ()),),
            compute=lambda events, _: [float(len(events["shop.sold"]["event_time_us"]))],
            names=("events",),
            ttl=window,
        ),
    ]


ALL = pytest.mark.parametrize("view", views(), ids=lambda view: view.name)
FAR = pytest.mark.parametrize("view", views(50 * DAY), ids=lambda view: view.name)


def sold(happened: float, event_id: str = "e", **more: Any) -> Sent:
    fields = {"item": "i", "due_us": at(happened), **more}
    return sent(SOLD, happened, event_id=event_id, **fields)


def case_of(view: View, *events: Sent, asked: tuple[float, ...], horizon: float = 1_000) -> Case:
    return Case(
        events=(SOLD,),
        request=SOLD,
        views=(view,),
        sent=events,
        batches=tuple(Batch(size=1) for _ in events),
        queries=tuple(query(SOLD, t, item="", due_us=at(t)) for t in asked),
        horizon_us=round(horizon * SECOND_US),
        compaction_slack=0,
    )


@FAR
@pytest.mark.parametrize("days", [-20, -3, -1, 1, 3, 20])
def test_a_copy_with_another_event_time_counts_once(view: View, days: int) -> None:
    """Also where the event and its copy are in other slices of a rebuild or of history."""
    first = sold(0, known=21 * DAY)
    copy = sold(days * DAY, known=21 * DAY + 1)
    asked = 21 * DAY + 5
    assert_values(case_of(view, first, copy, asked=(asked,)), [1])
    assert_values(case_of(view, copy, first, asked=(asked,)), [1])


@ALL
def test_a_copy_emitted_before_the_event_that_it_follows_counts_once(view: View) -> None:
    first, copy = sold(50, known=2_000), sold(50, known=51)
    assert_values(case_of(view, first, copy, asked=(60, 130)), [0], [0])


@pytest.mark.parametrize(
    ("view", "count"),
    [(view, {"calendar": 2, "open": 0}.get(view.name, 1)) for view in views()],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_last_sighting_decides_even_if_it_was_emitted_earlier(view: View, count: int) -> None:
    """The third is an event of its own: it is known 1,050 s after the second, which was sent again
    with an old time stamp. (As an item it is the same one, opened again.)"""
    events = [sold(500, known=1_000), sold(500, known=0), sold(1_050)]
    assert_values(case_of(view, *events, asked=(1_060,)), [count])


@pytest.mark.parametrize(
    "view", [v for v in views(2_000) if v.name != "open"], ids=lambda v: v.name
)
@pytest.mark.parametrize(("later", "count"), [(1_000, 1), (1_000.001, 2)])
def test_a_copy_within_the_horizon_counts_once(view: View, later: float, count: int) -> None:
    assert_values(case_of(view, sold(0), sold(later), asked=(1_010,)), [count])


@ALL
def test_a_copy_about_another_entity_counts_for_nobody(view: View) -> None:
    events = [sold(0, shop="b"), sold(1)]
    assert_values(case_of(view, *events, asked=(10,)), [0])


def test_a_copy_in_another_partition_is_an_event_of_its_own() -> None:
    """A key has one partition; the copy came after the topic had got more of them."""
    events = [sold(0), sold(0, partition=1)]
    assert_values(replace(case_of(views()[0], *events, asked=(10,)), partitions=2), [2])


@ALL
def test_a_copy_after_its_id_was_forgotten_is_never_marked_exact_where_it_counts(
    view: View,
) -> None:
    """It keeps the time stamp of its first sending; the value was never compacted since."""
    others = [sold(t, f"other{t}", shop="b") for t in (3_000, 6_000, 9_000)]
    case = case_of(view, sold(0), *others, sold(0), asked=(10, 9_001), horizon=30)
    case = replace(case, least_us=0, most_us=0, compaction_slack=100)
    for name, store in ingested(case, {"memory": MemoryOnlineStore()}).online.items():
        answers = online_values(case, view, store)
        wrong = answers.values[:, 0] != np.array([1, 1 if view.name == "calendar" else 0])
        assert not (wrong & answers.exact).any(), name
        assert answers.exact[1], name


@ALL
@pytest.mark.parametrize(("known", "latest"), [(5, 5), (-3, 0)], ids=["late", "early"])
def test_a_doubtful_event_leaves_its_entity_exact_from_when_it_cannot_count(
    view: View, known: float, latest: float
) -> None:
    """A view's look back after the event happened, or became known if that was later."""
    others = [sold(t, f"other{t}", shop="b") for t in (100 * DAY, 200 * DAY)]
    end = latest + view.lookback_us / SECOND_US
    asked = (end, end + 0.000001)
    late = sold(0, "late", known=known)
    case = case_of(view, sold(-10_000, "first"), *others, late, asked=asked, horizon=30)
    case = replace(case, least_us=0, most_us=0, compaction_slack=100)
    store = ingested(case, {"memory": MemoryOnlineStore()}).online["memory"]
    assert online_values(case, view, store).exact.tolist() == [False, True]


@ALL
def test_a_rebuilt_store_knows_the_last_sighting_of_an_id(view: View) -> None:
    """The copy came with a time stamp long before what is kept; the next one is an event again."""
    events = [sold(50, known=40_000), sold(50, known=100), sold(40_020)]
    batches = (Batch(size=2, rebuilds=True), Batch(size=1))
    case = case_of(view, *events, asked=(40_030,), horizon=30)
    case = replace(case, batches=batches, least_us=0, most_us=0)
    assert_values(case, [2 if view.name == "calendar" else 1])


def test_a_rebuilt_store_is_exact_since_the_newest_emission() -> None:
    """Not only since the moment when that event will be known."""
    delayed = replace(SOLD, known_after=seconds(1_000))
    view = views()[3]
    assert isinstance(view, PythonView)
    view = replace(view, keeps=((delayed, ()),))
    case = case_of(view, asked=(500,))
    late = tuple(replace(sold(t, f"e{t}"), event=delayed) for t in (0, 10))
    case = replace(case, events=(delayed,), request=delayed, sent=late, least_us=0, most_us=0)
    assert_values(case, [0])


def test_history_finds_copies_in_whatever_order_slices_are_read() -> None:
    """Each slice needs the duplicates known since its own first event; the table may grow too."""
    late, copy = sold(20 * DAY, "late"), sold(0.5, "early", known=2)
    case = case_of(views()[0], sold(0, "early"), copy, late, asked=())
    offline = ingested(case, {}).offline
    log = EventLog(offline, horizon_us=case.horizon_us)
    spans = [(at(20 * DAY), at(21 * DAY)), (at(-1), at(10)), (at(-1), at(30 * DAY))]
    assert [log.events(SOLD, (), event_from_us=a, event_until_us=b).height for a, b in spans] == [
        1,
        1,
        2,
    ]


def test_history_finds_copies_that_came_since_the_last_read() -> None:
    case = case_of(views()[0], sold(0, "a"), asked=())
    offline = MemoryOfflineStore()
    log = EventLog(offline, horizon_us=case.horizon_us)
    for size in (1, 2):
        more = replace(case, sent=(sold(0, "a"),) * size, batches=())
        ingested(more, {}, offline=offline)
        assert log.events(SOLD, ()).height == 1


def test_a_late_event_makes_only_its_own_entity_inexact() -> None:
    others = [sold(t, f"other{t}", shop="b") for t in (3_000, 6_000, 9_000)]
    case = case_of(views()[0], *others, sold(0, "late", shop="c"), asked=(10,), horizon=30)
    case = replace(case, least_us=0, most_us=0, compaction_slack=100)
    asked = {shop: query(SOLD, 10, item="", due_us=0, shop=shop) for shop in ("a", "b", "c")}
    case = replace(case, queries=tuple(asked.values()))
    store = ingested(case, {"memory": MemoryOnlineStore()}).online["memory"]
    exact = online_values(case, case.views[0], store).exact
    assert dict(zip(asked, exact.tolist(), strict=True)) == {"a": True, "b": True, "c": False}

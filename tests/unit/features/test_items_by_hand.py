"""What views over items and calendars answer about early, late and repeated events: by hand."""

from collections.abc import Sequence
from typing import Any

import pytest

from features.definitions import (
    Aggregation,
    CalendarView,
    Entity,
    EventType,
    ItemValue,
    OpenView,
    PreviousView,
    Span,
)
from features.engine.value_format import entity_tags
from features.engine.view_states import state_of
from features.stores.memory import MemoryOnlineStore
from tests.support.by_hand import SECOND_US, an_event, assert_values, at, query, seconds, sent
from tests.support.generated.cases import Batch, Case, Sent
from tests.support.generated.paths import ingested

SHOP = Entity(name="shop", keys=("shop",))
HOUR, DAY = 3_600, 86_400
PLANNED = an_event("item.planned", item=str, due_us=int)
CLOSED = an_event("item.closed", item=str, minutes=int)


def open_view(*closed_by: EventType, ahead: int, reach: int) -> OpenView:
    return OpenView(
        name="made",
        entity=SHOP,
        item="item",
        opened=PLANNED,
        due="due_us",
        closed_by=closed_by,
        reach=seconds(reach),
        ahead=seconds(ahead),
        gives=("count",),
    )


def previous_view(*, ahead: int, reach: int, unless: tuple[EventType, ...] = ()) -> PreviousView:
    """When the item before is due, and how many minutes the first known closing says."""
    return PreviousView(
        name="made",
        entity=SHOP,
        item="item",
        opened=PLANNED,
        order="due_us",
        before="due_us",
        reach=seconds(reach),
        ahead=seconds(ahead),
        keeps=((PLANNED, ("due_us",)), (CLOSED, ("minutes",))),
        values=(
            ItemValue(name="due", meaning="", compute=lambda i, _: i["item.planned.due_us"]),
            ItemValue(name="minutes", meaning="", compute=lambda i, _: i["item.closed.minutes"]),
        ),
        unless=unless,
    )


def planned(item: str, happened: float, due: float, **more: Any) -> Sent:
    return sent(PLANNED, happened, item=item, due_us=at(due), **more)


def closed(item: str, happened: float, minutes: int = 1, **more: Any) -> Sent:
    return sent(CLOSED, happened, item=item, minutes=minutes, **more)


def case_of(view: Any, sent_events: Sequence[Sent], *asked: tuple[float, float]) -> Case:
    """`asked`: as of when, and about a time ahead. One event a batch, compacted at once."""
    return Case(
        events=(PLANNED, CLOSED),
        request=PLANNED,
        views=(view,),
        sent=tuple(sent_events),
        batches=tuple(Batch(size=1) for _ in sent_events),
        queries=tuple(query(PLANNED, t, item="", due_us=at(due)) for t, due in asked),
        compaction_slack=0,
    )


def compacted(case: Case) -> Case:
    """The case with every value compacted through the newest event."""
    return Case(**{**vars(case), "least_us": 0, "most_us": 0})


def test_an_item_announced_longer_ahead_than_declared_does_not_count() -> None:
    view = open_view(CLOSED, ahead=48 * HOUR, reach=24 * HOUR)
    events = [planned("far", 0, 5 * DAY), planned("near", 4 * DAY, 5 * DAY)]
    case = case_of(view, events, (5 * DAY + 60, 0), (DAY, 0))
    assert_values(case, [1], [0])


def test_the_item_before_is_not_one_that_was_announced_too_early() -> None:
    view = previous_view(ahead=100, reach=50)
    events = [planned("far", 0, 101), planned("near", 0, 100)]
    assert_values(case_of(view, events, (60, 102)), [at(100), None])


def test_an_announcement_exactly_ahead_counts() -> None:
    events = [planned("edge", 0, 100), planned("beyond", -0.000001, 100)]
    assert_values(case_of(open_view(CLOSED, ahead=100, reach=50), events, (110, 0)), [1])


def test_a_late_report_counts_by_when_it_happened() -> None:
    """`ahead` is about when an announcement happened, not about when it was reported."""
    events = [planned("late", 0, 101, known=90)]
    assert_values(case_of(open_view(CLOSED, ahead=100, reach=50), events, (110, 0)), [0])


@pytest.mark.parametrize(("known", "is_open"), [(49, 1), (50, 0), (51, 0)])
def test_a_closing_known_too_long_before_the_due_time_does_not_count(
    known: float, is_open: int
) -> None:
    """100 s before: 70 ahead and 30 reach."""
    events = [closed("x", known - 45, known=known), planned("x", 80, 150)]
    assert_values(case_of(open_view(CLOSED, ahead=70, reach=30), events, (151, 0)), [is_open])


def test_a_later_closing_counts_where_the_first_one_came_too_early() -> None:
    events = [closed("x", 40, 1), closed("x", 160, 2), planned("x", 80, 150)]
    view = open_view(CLOSED, ahead=70, reach=30)
    assert_values(case_of(view, events, (155, 0), (170, 0)), [1], [0])
    kept = previous_view(ahead=70, reach=30)
    events = [closed("x", 40, 1), closed("x", 130, 2), closed("x", 131, 3), planned("x", 80, 150)]
    assert_values(case_of(kept, events, (140, 151)), [at(150), 2])


def test_the_earliest_closing_that_counts_decides_also_where_there_are_several() -> None:
    events = [closed("x", 5, known=50), closed("x", 160), planned("x", 80, 150)]
    assert_values(case_of(open_view(CLOSED, ahead=70, reach=30), events, (151, 0)), [0])


def test_an_item_that_is_announced_again_and_again_takes_one_row() -> None:
    events = [planned("x", t, due) for t, due in [(0, 40), (1, 40), (2, 30), (3, 40), (4, 20)]]
    case = compacted(case_of(open_view(CLOSED, ahead=100, reach=100), events, (50, 0)))
    store = ingested(case, {"memory": MemoryOnlineStore()}).online["memory"]
    state = state_of(case.views[0])
    values = state.compact(store.get([("made", [b"a"])])[0], [b"a"], at(10))  # type: ignore[arg-type]
    assert len(state.format.parse(values, entity_tags([b"a"])).base) == 1
    assert_values(case, [1])


def test_an_item_that_is_opened_again_keeps_its_first_due_time() -> None:
    events = [
        planned("x", 0, 10),
        planned("y", 100, 100),
        planned("z", 101, 100),
        planned("x", 102, 110),
    ]
    view = open_view(CLOSED, ahead=1_000, reach=30)
    assert_values(compacted(case_of(view, events, (120, 0))), [2])


def test_the_next_opening_counts_when_the_first_one_is_out_of_memory() -> None:
    """The first is due at 10; reach and ahead are 60 s: at 70 it still decides, then no longer."""
    events = [planned("x", 0, 10), planned("x", 45, 65)]
    view = open_view(CLOSED, ahead=30, reach=30)
    case = case_of(view, events, (40, 0), (41, 0), (70, 0), (70.000001, 0))
    assert_values(case, [1], [0], [0], [1])


@pytest.mark.parametrize("known", [45, 60])
def test_the_earlier_announcement_decides_in_whatever_order_they_arrive(known: float) -> None:
    later, earlier = planned("x", 45, 65, known=known), planned("x", 0, 10)
    view = open_view(CLOSED, ahead=30, reach=30)
    assert_values(case_of(view, [later, earlier], (69, 0), (71, 0)), [0], [1])


def test_a_compacted_state_still_knows_the_first_opening_when_it_counts_for_the_last_time() -> None:
    events = [planned("x", 0, 10), planned("x", 45, 65), planned("z", 70, 100)]
    view = open_view(CLOSED, ahead=30, reach=30)
    assert_values(compacted(case_of(view, events, (70, 0), (70.000001, 0))), [0], [1])


def test_a_compacted_state_still_knows_an_early_closing_when_it_counts_for_the_last_time() -> None:
    """The opening arrives when the closing is as old as one may be; the item is in reach still."""
    events = [closed("x", 5, known=50), planned("z", 180, 250), planned("x", 80, 150)]
    view = open_view(CLOSED, ahead=70, reach=30)
    assert_values(compacted(case_of(view, events, (180, 0))), [0])


def test_the_item_before_follows_the_opening_that_counts() -> None:
    events = [planned("x", 0, 10), planned("x", 45, 65)]
    view = previous_view(ahead=30, reach=30)
    asked = [(70, 80.0), (70.000001, 80.0)]
    assert_values(case_of(view, events, *asked), [None] * 2, [at(65), None])


def test_three_openings_count_one_after_the_other() -> None:
    """Each gives way 60 s after it was due; one due no later than another never counts."""
    events = [
        planned("x", 0, 10),
        planned("x", 1, 9),
        planned("x", 45, 65),
        planned("x", 46, 65),
        planned("x", 100, 125),
    ]
    view = open_view(CLOSED, ahead=30, reach=30)
    asked = [(t, 0.0) for t in (11, 40.5, 70, 71, 95.5, 125, 125.000001, 155.000001)]
    expected = [[n] for n in (1, 0, 0, 1, 0, 0, 1, 0)]
    assert_values(case_of(view, events, *asked), *expected)
    assert_values(case_of(view, events[::-1], *asked), *expected)


def test_of_several_closings_that_count_the_first_known_one_decides() -> None:
    events = [planned("x", 0, 10), closed("x", 12, 2, known=16), closed("x", 13, 3, known=14)]
    view = previous_view(ahead=100, reach=100)
    asked = [(13.5, 20.0), (14.001, 20.0), (17, 20.0)]
    rows = [at(10), None], [at(10), 3], [at(10), 3]
    assert_values(case_of(view, events, *asked), *rows)
    assert_values(compacted(case_of(view, events, (17, 20))), [at(10), 3])


def test_of_two_closings_at_one_moment_the_smaller_value_counts() -> None:
    events = [planned("x", 0, 10), closed("x", 12, 5), closed("x", 12, 4, event_id="other")]
    view = previous_view(ahead=100, reach=100)
    assert_values(case_of(view, events, (13, 20)), [at(10), 4])


def test_a_closing_of_the_first_opening_closes_the_second_one_too() -> None:
    events = [planned("x", 0, 10), closed("x", 20), planned("x", 45, 65)]
    view = open_view(CLOSED, ahead=30, reach=30)
    assert_values(compacted(case_of(view, events, (72, 0))), [0])


def test_of_two_announcements_at_one_moment_the_earlier_time_counts() -> None:
    events = [planned("x", 0, 15), planned("x", 0, 10)]
    assert_values(case_of(previous_view(ahead=100, reach=100), events, (12, 20)), [at(10), None])


def test_of_two_announcements_at_one_moment_each_field_has_the_smaller_value() -> None:
    """Until the one that is due first gives way: then the other one stands alone."""
    gated = an_event("item.gated", item=str, due_us=int, gate=int)
    view = PreviousView(
        name="made",
        entity=SHOP,
        item="item",
        opened=gated,
        order="due_us",
        before="due_us",
        reach=seconds(100),
        ahead=seconds(10),
        keeps=((gated, ("due_us", "gate")),),
        values=(
            ItemValue(name="due", meaning="", compute=lambda i, _: i["item.gated.due_us"]),
            ItemValue(name="gate", meaning="", compute=lambda i, _: i["item.gated.gate"]),
        ),
    )
    both = [
        sent(gated, 5, item=item, due_us=at(due), gate=gate, shop=item)
        for item, due, gate in [("x", -10, 7), ("x", 15, 5), ("y", -10, 5), ("y", 15, 7)]
    ]
    case = Case(
        events=(gated,),
        request=gated,
        views=(view,),
        sent=tuple(both),
        queries=tuple(
            query(gated, t, item="", gate=0, due_us=at(t), shop=shop)
            for t in (90, 100, 100.000001)
            for shop in ("x", "y")
        ),
    )
    early, none = [at(-10), 5], [None, None]
    assert_values(case, early, early, none, none, [at(15), 5], [at(15), 7])


def test_an_event_known_at_the_time_of_the_query_does_not_count() -> None:
    events = [planned("x", 0, 10), closed("x", 12)]
    view = open_view(CLOSED, ahead=100, reach=100)
    assert_values(case_of(view, events, (12, 0), (12.000001, 0)), [1], [0])
    asked = [(0, 20.0), (0.000001, 20.0), (12, 20.0), (12.000001, 20.0)]
    rows = [None, None], [at(10), None], [at(10), None], [at(10), 1]
    assert_values(case_of(previous_view(ahead=100, reach=100), events, *asked), *rows)


def test_an_item_that_is_not_known_yet_hides_none_before_it() -> None:
    events = [planned("x", 0, 10), planned("y", 5, 12)]
    asked = [(5, 20.0), (5.000001, 20.0)]
    view = previous_view(ahead=100, reach=100)
    assert_values(case_of(view, events, *asked), [at(10), None], [at(12), None])


def test_an_item_is_gone_once_an_event_says_so_not_before() -> None:
    events = [planned("x", 0, 10), closed("x", 12)]
    view = previous_view(ahead=100, reach=100, unless=(CLOSED,))
    asked = [(12, 20.0), (12.000001, 20.0)]
    assert_values(case_of(view, events, *asked), [at(10), None], [None, None])


def test_a_request_looks_back_from_a_time_that_is_not_past() -> None:
    """Its `before` is at the query or later, and the item at most `reach` before that."""
    view = previous_view(ahead=100, reach=5)
    asked = [(12, 12.0), (12, 11.999999), (12, 15.0), (12, 15.000001)]
    rows = [at(10), None], [None, None], [at(10), None], [None, None]
    assert_values(case_of(view, [planned("x", 0, 10)], *asked), *rows)


def test_an_item_at_the_time_that_is_asked_about_is_not_the_one_before() -> None:
    events = [planned("x", 0, 15), planned("y", 0, 20)]
    view = previous_view(ahead=100, reach=100)
    asked = [(10, 15.0), (10, 15.000001), (10, 20.0)]
    assert_values(case_of(view, events, *asked), [None] * 2, [at(15), None], [at(15), None])


def test_an_item_that_is_due_at_the_query_is_not_open_yet() -> None:
    view = open_view(CLOSED, ahead=100, reach=5)
    asked = [(10, 0.0), (10.000001, 0.0), (15, 0.0), (15.000001, 0.0)]
    assert_values(case_of(view, [planned("x", 0, 10)], *asked), [0], [1], [1], [0])


@pytest.mark.parametrize("view", [open_view(ahead=100, reach=9), previous_view(ahead=100, reach=9)])
def test_what_is_announced_too_early_is_counted_for_the_operator(view: Any) -> None:
    case = case_of(view, [planned("far", 0, 101), planned("near", 0, 100), closed("far", 0)])
    sink = ingested(case, {"memory": MemoryOnlineStore()}).sinks["memory"]
    assert sink.left_out == {"made": 1}


def around(seconds_: int) -> Span:
    return Span(
        name="around",
        start=lambda q: q["due_us"] - seconds_ * SECOND_US,
        end=lambda q: q["due_us"] + seconds_ * SECOND_US,
        reads=("due_us",),
    )


def test_a_span_sent_again_counts_once_in_a_calendar() -> None:
    view = CalendarView(
        name="made",
        source=PLANNED,
        entity=SHOP,
        at="due_us",
        spans=(around(10),),
        aggregations=(Aggregation(operation="count"),),
        reach=seconds(20),
        ahead=seconds(1_000),
    )
    first = planned("x", 0, 500)
    events = [first, *(planned("y", n, n, shop="b") for n in (100, 200)), first]
    case = compacted(case_of(view, events, (490, 500)))
    assert_values(Case(**{**vars(case), "horizon_us": 30 * SECOND_US}), [1])


def test_the_item_before_is_found_by_hand() -> None:
    """It says how the others are read."""
    case = case_of(previous_view(ahead=100, reach=50), [planned("x", 1, 15)], (10, 20))
    assert_values(case, [at(15), None])

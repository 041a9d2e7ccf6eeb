"""Training sets by hand: which decisions are rows, and which events are their labels."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

import numpy as np
import pytest
from structlog.testing import capture_logs

from features.definitions import (
    Aggregation,
    CalendarView,
    Check,
    Decision,
    EventType,
    FeatureService,
    FeatureView,
    RequestColumn,
    Span,
)
from features.errors import DataNotReady, DeclarationError
from features.retrieval.online import FeatureReader
from features.retrieval.readiness import Ends
from features.stores.memory import MemoryOnlineStore
from infra.kafka.partitions import Partition
from tests.support.by_hand import SECOND_US, an_event, at, query, sent
from tests.support.generated.cases import Sent
from tests.support.training_by_hand import (
    PLACED,
    RETURNED,
    SHOP,
    counting,
    label,
    rows,
    service,
    training_set,
)


def test_of_two_labels_of_one_moment_that_of_the_lower_partition_counts() -> None:
    """In whichever order the rows lie: compaction may turn them."""
    decided = sent(PLACED, 1, order="o1")
    one, other = (
        sent(RETURNED, 50, order="o1", shop=f"s{n}", late=n == 0, partition=n) for n in (0, 1)
    )
    assert [r["label"] for r in rows([decided, one, other])] == [1]
    assert [r["label"] for r in rows([decided, other, one])] == [1]


def test_a_decision_that_nobody_could_make_is_no_row() -> None:
    assert rows([sent(PLACED, 1, known=1_900, order="o1")], cutoff=2_000) == []


def test_a_source_that_lags_is_not_ready() -> None:
    events = [sent(PLACED, 1, order="o1"), sent(RETURNED, 990, order="o1", late=True)]
    with pytest.raises(DataNotReady):
        rows(events, cutoff=1_000, tolerance_us=20 * SECOND_US)


def test_an_event_after_the_cut_off_stops_no_training_set() -> None:
    strict = Check(
        name="small", holds=lambda e: e["cents"] < 10, reads=("cents",), on_failure="stop"
    )
    placed = an_event("order.placed", key="order", order=str, cents=int, checks=[strict])
    events = [sent(placed, 1, order="o1", cents=1)]
    before = rows(events, of=service(placed))
    later = sent(placed, 5, known=2_000, order="o2", cents=99)
    assert rows([*events, later], of=service(placed)) == before


def test_a_label_without_a_value_is_not_known_yet() -> None:
    returned = an_event("order.returned", order=str, late=int | None)
    events = [
        sent(PLACED, 1, order="o1"),
        sent(returned, 50, order="o1", late=None),
        sent(returned, 90, order="o1", late=1),
    ]
    assert [r["label"] for r in rows(events, by=label(returned))] == [1]


def test_a_label_that_a_check_nullifies_is_not_known_yet() -> None:
    sane = Check(
        name="sane",
        holds=lambda e: e["late"] < 9,
        reads=("late",),
        on_failure="nullify",
        field="late",
    )
    returned = an_event("order.returned", order=str, late=float, checks=[sane])
    events = [sent(PLACED, 1, order="o1"), sent(returned, 50, order="o1", late=99.0)]
    by = label(returned, value=lambda e: e["late"] > 0)
    assert [r["label"] for r in rows(events, by=by)] == [None]


def test_a_label_comes_after_its_decision() -> None:
    events = [sent(RETURNED, 1, order="o1", late=True), sent(PLACED, 50, order="o1")]
    assert [r["label"] for r in rows(events)] == [None]


def test_a_label_that_is_no_truth_value_is_refused() -> None:
    returned = an_event("order.returned", order=str, late=int)
    events = [sent(PLACED, 1, order="o1"), sent(returned, 50, order="o1", late=257)]
    with pytest.raises(DeclarationError):
        rows(events, by=label(returned, value=lambda e: e["late"]))


def test_a_request_column_of_the_time_means_one_thing() -> None:
    column = RequestColumn(
        name="when", compute=lambda e: e["event_time_us"], reads=("event_time_us",)
    )
    try:
        of = service(request_columns=(column,))
    except DeclarationError:
        return
    then = rows([sent(PLACED, 1, order="o1")], of=of)[0]
    request = query(PLACED, 11, order="o1").record
    vectors = FeatureReader(of, MemoryOnlineStore()).vectors([request], np.array([at(11)]))
    assert vectors.numbers[0, 0] == then["when"]


def test_two_features_of_one_name_are_refused() -> None:
    placed = an_event("order.placed", key="order", order=str, last_x=int, x=int)
    window = (timedelta(seconds=100),)
    shop = FeatureView(
        name="shop",
        source=placed,
        entity=SHOP,
        aggregations=(Aggregation(operation="max", column="last_x", windows=window),),
    )
    shop_max = FeatureView(
        name="shop_max",
        source=placed,
        entity=SHOP,
        aggregations=(Aggregation(operation="last", column="x", windows=window),),
    )
    assert shop.features == shop_max.features
    with pytest.raises(DeclarationError):
        service(placed, views=(shop, shop_max))


@pytest.mark.parametrize("name", ["label", "entity_id", "decision_time_us", "label_known_at_us"])
def test_a_reserved_column_name_is_refused(name: str) -> None:
    column = RequestColumn(name=name, compute=lambda e: e["as_of_us"], reads=("as_of_us",))
    with pytest.raises(DeclarationError, match=f"a column '{name}' of its own"):
        service(request_columns=(column,))


def test_a_truth_value_is_a_label_within_a_span() -> None:
    events = [sent(PLACED, 1, order="o1"), sent(RETURNED, 20, order="o1", late=True)]
    by = label(value=lambda e: e["late"], within=timedelta(seconds=30))
    assert [r["label"] for r in rows(events, by=by)][:1] == [1]


def test_a_decision_that_was_known_just_in_time_is_a_row() -> None:
    """The millisecond of the decision still counts, one more does not."""
    (row,) = rows([sent(PLACED, 1, known=11, order="o1")], cutoff=2_000)
    assert row["decision_time_us"] == at(11)
    assert rows([sent(PLACED, 1, known=11.001, order="o1")], cutoff=2_000) == []


def test_decisions_that_were_known_late_are_logged_with_the_remedy() -> None:
    events = [sent(PLACED, 1, known=1 + n, order=f"o{n}") for n in (5, 12, 13)]
    with capture_logs() as logs:
        assert len(rows(events, cutoff=2_000, slice_us=5 * SECOND_US)) == 1
    (line,) = logs
    assert (line["event"], line["events"]) == ("decisions_known_late", 2)
    assert "reported_within" in line["remedy"]


def test_a_source_may_report_late_what_it_is_declared_to() -> None:
    of = service()
    late = replace(of, decision=replace(of.decision, reported_within=timedelta(seconds=5)))
    for known, count in ((16, 1), (16.001, 0)):
        assert len(rows([sent(PLACED, 1, known=known, order="o1")], of=late)) == count


def moved(of_several: Literal["each", "current"]) -> FeatureService:
    """Each order is decided at a time that it names, and may be moved."""
    return service(
        MOVABLE,
        decision=Decision(
            request=MOVABLE,
            source=MOVABLE,
            entity_id="order",
            at=lambda e: e["due_us"],
            of_several=of_several,
        ),
    )


MOVABLE = an_event("order.announced", key="order", order=str, due_us=int)


def announced(happened: float, due: float, *, order: str = "o1", **more: Any) -> Sent:
    return sent(MOVABLE, happened, order=order, due_us=at(due), **more)


@pytest.mark.parametrize(
    ("announcements", "current"),
    [
        ([announced(1, 60), announced(20, 90)], [90]),  # moved in time
        ([announced(1, 60), announced(60, 90)], [90]),  # known when it would have been decided
        ([announced(1, 60), announced(61, 90)], [60]),  # the decision had been made
        ([announced(1, 60), announced(20, 40)], [40]),  # moved forward
        ([announced(1, 60), announced(20, 10)], []),  # to a time that is over: nobody can decide
        ([announced(1, 60), announced(20, 90), announced(30, 60)], [60]),  # and moved back
        ([announced(1, 60), announced(2, 70, order="o2")], [60, 70]),
    ],
)
@pytest.mark.parametrize("slice_s", [7, 1_000])
def test_an_order_that_is_announced_again_is_decided_once(
    announcements: list[Sent], current: list[float], slice_s: int
) -> None:
    made = rows(announcements, of=moved("current"), slice_us=slice_s * SECOND_US)
    assert [r["decision_time_us"] for r in made] == [at(t) for t in current]


def test_each_announcement_is_a_decision_unless_declared_otherwise() -> None:
    made = rows([announced(1, 60), announced(20, 90)], of=moved("each"))
    assert [r["decision_time_us"] for r in made] == [at(60), at(90)]


def test_an_announcement_that_is_sent_again_replaces_nothing() -> None:
    again = {"event_id": "one"}
    made = rows(
        [announced(1, 60, **again), announced(1, 60, known=9, **again)], of=moved("current")
    )
    assert [r["decision_time_us"] for r in made] == [at(60)]


@pytest.mark.parametrize(
    ("happened", "known", "value"),
    [
        (11, 50, None),  # at the decision
        (11.000001, 50, 1),
        (5, 50, None),  # before it, and reported after it: it had happened
        (50, 10.999, None),  # known before it: its source's clock is fast
        (50, 11, 1),  # known at it: no feature has seen it
    ],
)
def test_a_label_happens_after_its_decision_and_was_not_known_before(
    happened: float, known: float, value: int | None
) -> None:
    events = [
        sent(PLACED, 1, order="o1"),
        sent(RETURNED, happened, known=known, order="o1", late=True),
    ]
    assert [r["label"] for r in rows(events)] == [value]


def test_of_several_outcomes_the_first_after_each_decision_is_its_label() -> None:
    """A customer who comes again: earlier baskets are no label."""
    events = [
        sent(PLACED, 1, order="o1"),
        sent(RETURNED, 20, order="o1", late=True),
        sent(PLACED, 30, order="o1"),
        sent(RETURNED, 60, known=90, order="o1", late=True),
        sent(RETURNED, 70, order="o1", late=False),
    ]
    assert [(r["label"], r["label_known_at_us"]) for r in rows(events)] == [
        (1, at(20)),
        (0, at(70)),
    ]


@pytest.mark.parametrize("within", [None, timedelta(seconds=30)])
def test_a_null_is_not_known_yet_in_any_field_that_a_label_reads(within: timedelta | None) -> None:
    returned = an_event("order.returned", order=str, late=int | None, why=str | None)
    by = label(
        returned,
        value=lambda e: (e["late"] != 1) & (e["why"] != "mistake"),
        reads=("late", "why"),
        within=within,
    )
    unknown = 0 if within else None
    for late, why, value in ((0, "broken", 1), (None, "broken", unknown), (0, None, unknown)):
        events = [sent(PLACED, 1, order="o1"), sent(returned, 20, order="o1", late=late, why=why)]
        assert rows(events, by=by)[0]["label"] == value


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (int, lambda e: e["late"]),
        (float, lambda e: e["late"]),
        (str, lambda e: e["late"]),
        (int | None, lambda e: e["late"] * 2),
    ],
)
@pytest.mark.parametrize("within", [None, timedelta(seconds=30)])
def test_a_label_is_refused_where_it_is_declared_if_its_type_is_no_truth_value(
    kind: Any, value: Any, within: timedelta | None
) -> None:
    returned = an_event("order.returned", order=str, late=kind)
    with pytest.raises(DeclarationError, match=r"label late: its value is .* 0 or 1"):
        label(returned, value=value, within=within)


@pytest.mark.parametrize("value", [2, -1])
def test_a_label_that_turns_out_to_be_no_truth_value_is_refused(value: int) -> None:
    returned = an_event("order.returned", order=str, late=int)
    by = label(returned, value=lambda e: np.where(e["late"] == value, value, 0))
    with pytest.raises(DeclarationError, match=f"label late: its value is {value}"):
        rows(
            [sent(PLACED, 1, order="o1"), sent(returned, 50, order="o1", late=value)],
            by=by,
        )


def test_a_label_of_zeros_and_ones_is_a_label() -> None:
    by = label(value=lambda e: np.where(e["late"] == 1, 1.0, 0.0))
    events = [sent(PLACED, 1, order="o1"), sent(RETURNED, 50, order="o1", late=True)]
    assert [r["label"] for r in rows(events, by=by)] == [1]


def test_a_label_about_entities_of_another_type_is_refused() -> None:
    returned = an_event("order.returned", order=int, late=bool)
    events = [sent(PLACED, 1, order="o1"), sent(returned, 50, order=1, late=True)]
    with pytest.raises(DeclarationError, match="order is Int64"):
        rows(events, by=label(returned))


@pytest.mark.parametrize("reads", ["event_time_us", "event_id"])
def test_what_differs_between_a_request_and_history_cannot_be_read(reads: str) -> None:
    request = an_event("order.query", key="order", order=str)
    column = RequestColumn(name="when", compute=lambda e: e[reads], reads=(reads,))
    with pytest.raises(DeclarationError, match="as_of_us"):
        service(
            request_columns=(column,),
            decision=Decision(
                request=request, source=PLACED, entity_id="order", at=lambda e: e["event_time_us"]
            ),
        )


def test_a_view_that_reads_the_time_of_a_request_is_refused() -> None:
    span = Span(
        name="now",
        start=lambda e: e["event_time_us"],
        end=lambda e: e["event_time_us"] + 1,
        reads=("event_time_us",),
    )
    calendar = CalendarView(
        name="calendar",
        source=MOVABLE,
        entity=SHOP,
        at="due_us",
        spans=(span,),
        aggregations=(Aggregation(operation="count"),),
        reach=timedelta(seconds=9),
        ahead=timedelta(seconds=9),
    )
    with pytest.raises(DeclarationError, match="as_of_us"):
        service(MOVABLE, views=(calendar,))


def test_the_decision_time_is_one_value_live_and_in_history() -> None:
    column = RequestColumn(name="when", compute=lambda e: e["as_of_us"], reads=("as_of_us",))
    of = service(request_columns=(column,))
    assert rows([sent(PLACED, 1, order="o1")], of=of)[0]["when"] == at(11)
    request = query(PLACED, 11, order="o1").record
    vectors = FeatureReader(of, MemoryOnlineStore()).vectors([request], np.array([at(11)]))
    assert vectors.numbers[0, 0] == at(11)


def test_an_event_has_no_field_called_like_the_decision_time() -> None:
    placed = an_event("order.placed", key="order", order=str, as_of_us=int)
    with pytest.raises(DeclarationError, match="as_of_us"):
        service(placed)


def test_two_columns_or_views_of_one_name_are_refused() -> None:
    column = RequestColumn(name="made_count_100s", compute=lambda e: e["x"], reads=("order",))
    with pytest.raises(DeclarationError, match="two columns are called"):
        service(request_columns=(column,))
    with pytest.raises(DeclarationError, match="two columns are called"):
        service(request_columns=(replace(column, name="q"), replace(column, name="q")))
    with pytest.raises(DeclarationError, match="two views are called"):
        service(views=(counting(PLACED), counting(RETURNED)))


ENDS = {Partition(PLACED.name, 0): 1, Partition(RETURNED.name, 0): 1}


def ends_of(ends: Mapping[Partition, int]) -> Ends:
    """What the brokers say, at the cut-off that is asked for."""

    def at_cutoff(topics: Sequence[str], cutoff_us: int) -> Mapping[Partition, int]:
        assert cutoff_us == at(1_000)
        return {p: end for p, end in ends.items() if p.topic in topics}

    return at_cutoff


def test_a_source_that_is_quiet_is_ready_when_its_end_is_reached() -> None:
    events = [sent(PLACED, 1, order="o1"), sent(RETURNED, 990, order="o1", late=True)]
    options: dict[str, Any] = {"tolerance_us": 20 * SECOND_US, "ends": ends_of(ENDS)}
    assert [r["label"] for r in rows(events, **options)] == [1]
    nothing_returned = {**ENDS, Partition(RETURNED.name, 0): 0}
    events = [sent(PLACED, 985, order="o1")]
    assert len(rows(events, tolerance_us=20 * SECOND_US, ends=ends_of(nothing_returned))) == 1


@pytest.mark.parametrize("topic", [PLACED.name, RETURNED.name])
@pytest.mark.parametrize("partition", [0, 1])
def test_a_partition_that_is_behind_its_end_at_the_cut_off_holds_the_export(
    topic: str, partition: int
) -> None:
    events = [sent(PLACED, 1, order="o1"), sent(RETURNED, 990, order="o1", late=True)]
    ends = ends_of({**ENDS, Partition(topic, partition): 2 - partition})
    with pytest.raises(DataNotReady, match=f"{topic}-{partition}"):
        rows(events, ends=ends)


def test_no_event_near_the_cut_off_is_no_good_news_though_all_ends_are_reached() -> None:
    """While a recording is replayed its topics end early."""
    events = [sent(PLACED, 1, order="o1"), sent(RETURNED, 500, order="o1", late=True)]
    with pytest.raises(DataNotReady):
        rows(events, tolerance_us=20 * SECOND_US, ends=ends_of(ENDS))


@pytest.mark.parametrize("sent_only", [PLACED, RETURNED])
def test_without_brokers_a_source_that_was_never_ingested_is_not_ready(
    sent_only: EventType,
) -> None:
    more = {"late": True} if sent_only is RETURNED else {}
    events = [sent(sent_only, t, order="o1", **more) for t in (1, 990)]
    with pytest.raises(DataNotReady, match="is empty"):
        rows(events, tolerance_us=20 * SECOND_US)


def test_without_a_broker_that_responds_silence_is_judged_by_the_tolerance() -> None:
    def away(topics: Sequence[str], cutoff_us: int) -> None:
        """No broker responds."""

    events = [sent(PLACED, 1, order="o1"), sent(RETURNED, 990, order="o1", late=True)]
    with pytest.raises(DataNotReady, match=r"for order\.placed ends at"):
        rows(events, tolerance_us=20 * SECOND_US, ends=away)
    assert len(rows(events, tolerance_us=999 * SECOND_US, ends=away)) == 1


@pytest.mark.parametrize(("quiet_h", "is_ready"), [(24, True), (25, False)])
def test_without_brokers_a_source_of_once_a_day_may_be_quiet_for_a_day(
    quiet_h: int, is_ready: bool
) -> None:
    cutoff = 86_400 * 3
    last = cutoff - quiet_h * 3_600
    events = [
        *(sent(PLACED, t, order=f"o{t}") for t in (1, last)),
        *(sent(RETURNED, t, order="o1", late=True) for t in (2, cutoff - 1)),
    ]
    options: dict[str, Any] = {"cutoff": cutoff, "tolerance_us": SECOND_US}
    if is_ready:
        assert len(rows(events, **options)) == 2
    else:
        with pytest.raises(DataNotReady):
            rows(events, **options)


def test_what_was_known_after_the_cut_off_is_not_even_counted() -> None:
    events = [sent(PLACED, 1, order="o1"), sent(RETURNED, 50, order="o1", late=True)]
    later = sent(RETURNED, 51, known=1_500, order="o1", late=False)
    before, after = (training_set(e).manifest for e in (events, [*events, later]))
    assert before.sha256 == after.sha256
    assert before.tables[RETURNED.name].offsets == after.tables[RETURNED.name].offsets

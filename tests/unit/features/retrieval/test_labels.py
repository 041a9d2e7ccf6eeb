"""Labels of whether an event happens within a span: both values are known after the whole wait,
and late or duplicated events change them as documented."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from features.definitions import Decision, FeatureService, Label
from features.engine.label_windows import first_known_after, happened_within
from features.errors import DeclarationError
from features.ingestion.offline_sink import OfflineSink
from features.retrieval.historical import TrainingRows, training_rows
from features.stores.memory import MemoryOfflineStore
from infra.clock import DAY, SECOND
from infra.kafka.partitions import Partition
from tests.support.data.sales import (
    SHOP_SALES,
    SOLD,
    START_US,
    Sale,
    rows_of,
    sale,
    without_duplicates,
)

WITHIN_S, WAIT_S, HORIZON_S = 20, 25, 1_000
SERVICE = FeatureService(
    name="next_sale",
    decision=Decision(
        request=SOLD, source=SOLD, entity_id="shop", at=lambda e: e["event_time_us"] + SECOND
    ),
    request_columns=(),
    views=(SHOP_SALES,),
)
SELLS_MUCH = Label(
    name="sells_much_within_20s",
    source=SOLD,
    entity_id="shop",
    value=lambda e: e["cents"] >= 3,
    reads=("cents",),
    within=timedelta(seconds=WITHIN_S),
    max_wait=timedelta(seconds=WAIT_S),
)


def rows(sales: Sequence[Sale], *, cutoff: int, label: Label = SELLS_MUCH) -> TrainingRows:
    """The decisions, each a second after a sale, as they were known `cutoff` s after the start."""
    store = MemoryOfflineStore()
    partition = Partition(SOLD.name, 0)
    buffer = OfflineSink(store, {SOLD.name: SOLD}, clock_us=lambda: START_US)
    buffer.load([partition])
    buffer.add([rows_of(sales)], {partition: len(sales)})
    buffer.flush()
    cutoff_us = START_US + cutoff * SECOND
    return training_rows(
        SERVICE,
        label,
        store,
        start_us=0,
        end_us=cutoff_us,
        known_before_us=cutoff_us,
        duplicate_horizon_us=HORIZON_S * SECOND,
        ready_tolerance_us=DAY,
    )


def labels(sales: Sequence[Sale], *, cutoff: int) -> dict[tuple[str, int], int | None]:
    """Shop and second of the decision -> label."""
    frame = rows(sales, cutoff=cutoff).frame
    seconds = (frame["decision_time_us"] - START_US) // SECOND
    return dict(
        zip(zip(frame["entity_id"], seconds, strict=True), frame["label"].to_list(), strict=True)
    )


def reference(sales: Sequence[Sale], *, cutoff: int) -> dict[tuple[str, int], int | None]:
    """The same by the definition of `Label`, one decision and one sale at a time."""
    first_sightings = without_duplicates(sales, horizon_s=HORIZON_S)
    labels: dict[tuple[str, int], int | None] = {}
    for decided in first_sightings:
        t = decided.happened + 1
        if decided.known >= cutoff or t >= cutoff or decided.known > t:
            continue
        labels[decided.shop, t] = None
        if t + WAIT_S <= cutoff:
            labels[decided.shop, t] = 0
            for s in first_sightings:
                comes = t < s.happened <= t + WITHIN_S and t <= s.known < t + WAIT_S
                if s.shop == decided.shop and s.cents >= 3 and comes:
                    labels[decided.shop, t] = 1
    return labels


def sales_of(*sales: tuple[str, int, dict[str, Any]]) -> list[Sale]:
    return [sale(name, happened, **rest) for name, happened, rest in sales]


SALES = st.lists(
    st.builds(
        # An event that is sent again has the same time: the test below has one that does not.
        lambda name, happened, delay, shop, cents: Sale(
            id=f"{name}{happened}",
            happened=happened,
            known=happened + delay,
            shop=shop,
            cents=cents,
        ),
        st.sampled_from("ab"),
        st.integers(0, 80) | st.sampled_from([0, 1, 2, 20, 21, 22]),  # some ids occur twice
        st.integers(-2, 40),  # reported early, at once, late, or too late to count
        st.sampled_from("xyz"),
        st.integers(0, 5),
    ),
    min_size=1,
    max_size=25,
)


@settings(deadline=None)  # the first example imports polars
@given(sales=SALES, cutoff=st.integers(41, 160))
@example(sales=sales_of(("1", 0, {}), ("2", 0, {"cents": 5})), cutoff=100)
def test_labels_equal_the_reference_with_late_and_duplicated_events(
    sales: list[Sale], cutoff: int
) -> None:
    assert labels(sales, cutoff=cutoff) == reference(sales, cutoff=cutoff)


def test_an_id_repeated_with_another_time_counts_once() -> None:
    sales = sales_of(("a", 40, {"cents": 0}), ("b", 0, {"cents": 0}), ("a", 2, {"cents": 3}))
    assert labels(sales, cutoff=41) == reference(sales, cutoff=41)


@pytest.mark.parametrize(
    ("fields", "label"),
    [
        ({"happened": 22, "cents": 3}, 0),  # 21 s after the decision
        ({"happened": 21, "cents": 3}, 1),  # 20 s after it: the span includes its edge
        ({"happened": 21, "cents": 2}, 0),  # not an event that the label counts
        ({"happened": 21, "cents": 3, "shop": "b"}, 0),
        ({"happened": 1, "cents": 3}, 0),  # at the decision, not after it
        ({"happened": 2, "cents": 3}, 1),
        ({"happened": 0, "known": 5, "cents": 3}, 0),  # before it, and reported later
        ({"happened": 4, "known": 0, "cents": 3}, 0),  # known before it: a clock that is fast
        ({"happened": 4, "known": 1, "cents": 3}, 1),  # known at it: no feature has seen it
        ({"happened": 21, "known": 25, "cents": 3}, 1),
        ({"happened": 21, "known": 26, "cents": 3}, 0),  # reported after the wait
    ],
)
def test_only_events_after_the_decision_that_are_known_in_time_count(
    fields: dict[str, Any], label: int
) -> None:
    sales = [sale("decision", 0, cents=5), sale("next", **fields)]
    assert labels(sales, cutoff=100)["a", 1] == label


@pytest.mark.parametrize("comes_back", [True, False])
def test_both_label_values_are_known_after_the_whole_wait_and_not_before(comes_back: bool) -> None:
    sales = [sale("decision", 0), sale("next", 3, cents=5 if comes_back else 0)]
    assert labels(sales, cutoff=1 + WAIT_S - 1)["a", 1] is None
    assert labels(sales, cutoff=1 + WAIT_S)["a", 1] == int(comes_back)
    known_us = rows(sales, cutoff=100).frame["label_known_at_us"]
    assert known_us[0] == START_US + (1 + WAIT_S) * SECOND


def test_events_known_after_the_wait_change_no_label() -> None:
    sales = [sale("decision", 0), sale("late", 3, known=90, cents=5)]
    soon, later = (labels(sales, cutoff=c)["a", 1] for c in (60, 120))
    assert (soon, later) == (0, 0)


def test_two_events_of_one_decision_make_one_row() -> None:
    sales = [sale("one", 0), sale("other", 0, known=4), sale("next", 9)]
    assert rows(sales, cutoff=100).frame["decision_time_us"].is_unique().all()


def test_no_decision_gives_no_label() -> None:
    sales = [sale("decision", 50)]
    empty = rows(sales, cutoff=10, label=SELLS_MUCH).frame
    assert empty.height == 0
    assert (empty["label"].dtype, empty["label_known_at_us"].dtype) == (pl.Int8, pl.Int64)


@pytest.mark.parametrize("within_s", [0, -1, WAIT_S + 1])
def test_a_span_that_does_not_fit_into_the_wait_is_refused(within_s: int) -> None:
    with pytest.raises(DeclarationError, match="sells_much_within_20s"):
        replace(SELLS_MUCH, within=timedelta(seconds=within_s))


def test_an_event_that_is_known_after_the_wait_hides_no_other() -> None:
    """Of the decision at 9, the event at 10 is a label; the one at 8, known at 40, is of none."""
    happened = happened_within(
        group=np.array([0, 0]),
        happened_us=np.array([10, 8]),
        known_us=np.array([10, 40]),
        query_group=np.array([0]),
        query_us=np.array([9]),
        within_us=5,
        wait_us=20,
    )
    assert happened.tolist() == [True]


def test_the_first_known_event_happened_after_the_decision_and_was_not_known_before_it() -> None:
    no_events = np.empty(0, np.int64)
    queries = {
        "query_group": np.array([0, 0, 0, 0, 1, 1, 2]),
        "query_us": np.array([5, 6, 19, 20, 49, 50, 0]),
    }
    first = first_known_after(
        group=np.array([0, 0, 1]),
        happened_us=np.array([100, 20, 50]),
        known_us=np.array([5, 30, 50]),
        rank=np.array([0, 1, 2]),
        **queries,
    )
    assert first.tolist() == [0, 1, 1, -1, 2, -1, -1]
    none = first_known_after(
        group=no_events, happened_us=no_events, known_us=no_events, rank=no_events, **queries
    )
    assert none.tolist() == [-1] * 7


def test_groups_and_times_that_need_more_than_64_bits_together_do_not_collide() -> None:
    group = np.arange(20_000)
    happened_us = START_US + group * SECOND
    own, next_group = (
        happened_us - 1,
        happened_us[:-1] - 1,
    )  # just before the group's own event, or before another group's
    happened = happened_within(
        group=group,
        happened_us=happened_us,
        known_us=happened_us,
        query_group=np.concatenate([group, group[1:]]),
        query_us=np.concatenate([own, next_group]),
        within_us=1,
        wait_us=2,
    )
    assert happened[: len(group)].all()
    assert not happened[len(group) :].any()

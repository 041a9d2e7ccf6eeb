"""An event that was sent twice counts once, live and in history."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.definitions import View
from features.engine.deduplication import (
    DeduplicationWindow,
    SeenIds,
    first_sightings,
    ids_kept_us,
)
from infra.kafka.partitions import Partition
from tests.support.examples import examples
from tests.unit.features.test_resent_events import SOLD, views

P = Partition("t", 0)
HORIZON = 10


def sightings(ids: list[str], known: list[int], first_offset: int = 0) -> SeenIds:
    return SeenIds(
        partition=P, first_offset=first_offset, ids=ids, known_at_us=np.array(known, np.int64)
    )


def test_a_sighting_counts_again_only_beyond_the_horizon() -> None:
    window = DeduplicationWindow(HORIZON)
    first = window.first_sightings(sightings(["a", "a", "a", "b"], [0, 10, 21, 21]))
    assert first.tolist() == [True, False, True, True]


def test_history_counts_the_same_sightings_in_each_partition() -> None:
    """The same ids at the same times in two partitions; the rows are not in their order."""
    first = first_sightings(
        ids=np.array([1, 2, 1, 1] * 2),
        partitions=np.repeat([0, 1], 4),
        offsets=np.array([2, 3, 1, 0] * 2),
        known_at_us=np.array([21, 21, 10, 0] * 2),
        horizon_us=HORIZON,
    )
    assert first.tolist() == [True, True, False, True] * 2


def test_a_dropped_sighting_renews_the_horizon() -> None:
    window = DeduplicationWindow(HORIZON)
    assert window.first_sightings(sightings(["a"] * 4, [0, 8, 16, 24])).tolist() == [
        True,
        False,
        False,
        False,
    ]


def test_ids_beyond_the_horizon_are_forgotten() -> None:
    window = DeduplicationWindow(HORIZON)
    window.first_sightings(sightings(["old", "old", "renewed"], [0, 0, 0]))
    window.first_sightings(sightings(["renewed"], [9], first_offset=3))
    assert window.forget() == ([], [])

    window.first_sightings(sightings(["new"], [21], first_offset=4))
    assert window.forget() == ([0], [])
    assert len(window) == 2
    assert window.first_sightings(sightings(["renewed"], [19], first_offset=5)).tolist() == [False]


def test_a_restarted_window_remembers_earlier_sightings() -> None:
    earlier = [sightings(["a", "b"], [0, 1]), sightings(["a"], [5], first_offset=2)]
    restarted = DeduplicationWindow(HORIZON, earlier)
    assert restarted.first_sightings(sightings(["a", "b"], [15, 15], 3)).tolist() == [False, True]


def test_ids_without_a_time_each_are_refused() -> None:
    damaged = sightings(["a", "b"], [0])
    with pytest.raises(ValueError, match="zip"):
        DeduplicationWindow(HORIZON, [damaged])
    with pytest.raises(ValueError, match="zip"):
        DeduplicationWindow(HORIZON).first_sightings(damaged)


def test_an_event_may_repeat_another_only_if_ids_as_old_as_that_are_forgotten() -> None:
    window = DeduplicationWindow(HORIZON, keep_us=30)
    window.first_sightings(sightings(["a", "b"], [0, 1]))
    assert window.forget() == ([], [])
    assert not window.may_repeat(np.array([-1_000, 0])).any()

    window.first_sightings(sightings(["c"], [40], first_offset=2))
    assert window.forget() == ([0], [])  # ids known before 10
    assert window.may_repeat(np.array([0, 19, 20, 40])).tolist() == [True, True, False, False]


def test_of_too_many_ids_the_oldest_are_forgotten_and_their_events_may_repeat() -> None:
    window = DeduplicationWindow(HORIZON, keep_us=1_000, max_ids=4)
    stored: dict[int, SeenIds] = {}
    for n in range(5):
        seen = sightings([f"{n}a", f"{n}b"], [10 * n, 10 * n], first_offset=2 * n)
        window.first_sightings(seen)
        dropped, replaced = window.forget()
        stored |= {s.first_offset: s for s in (seen, *replaced)}
        stored = {offset: s for offset, s in stored.items() if offset not in dropped}
        assert len(window) <= 4
    assert window.forgotten_early == 6
    assert sorted(stored) == [4, 6, 8]

    # The ids of 20 and before are forgotten: events until 30 may repeat one of theirs.
    restarted = DeduplicationWindow(
        HORIZON, [stored[o] for o in sorted(stored)], keep_us=1_000, max_ids=4
    )
    for each in (window, restarted):
        assert each.may_repeat(np.array([30, 31])).tolist() == [True, False]
        again = sightings(["2a", "3a", "4a"], [30, 33, 41], first_offset=10)
        assert each.first_sightings(again).tolist() == [True, False, False]


def test_a_restarted_window_knows_that_ids_were_forgotten() -> None:
    from_the_start = [sightings(["a"], [0]), sightings(["b"], [60], first_offset=1)]
    forgotten = [sightings(["b"], [60], first_offset=1)]
    windows = [DeduplicationWindow(HORIZON, s, keep_us=30) for s in (from_the_start, forgotten)]
    repeats = [window.may_repeat(np.array([39, 40])).tolist() for window in windows]
    assert repeats == [[False, False], [True, False]]
    assert not DeduplicationWindow(HORIZON, keep_us=30).may_repeat(np.array([0])).any()


@pytest.mark.parametrize("view", views(reach=100, ahead=1_000), ids=lambda view: view.name)
def test_ids_are_kept_while_a_copy_can_count_for_an_exact_query(view: View) -> None:
    """The event happened up to 3 before it was emitted, its copy came 20 later, a query waits 7."""
    delayed = replace(SOLD, known_after=timedelta(microseconds=11))
    kept = [
        ids_kept_us([view], event, horizon_us=20, hold_us=7, max_future_us=3)
        for event in (SOLD, delayed)
    ]
    assert kept == [view.lookback_us + 20 + 7 + 3, view.lookback_us + 20 + 7 + 3 + 11]
    assert ids_kept_us([view], SOLD, horizon_us=10**15, hold_us=7) == 2 * 10**15
    assert ids_kept_us([], SOLD, horizon_us=20, hold_us=7) == 40
    assert ids_kept_us([], SOLD, horizon_us=20, hold_us=30) == 50


@examples(100)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from("abc"), st.integers(-9, 13)), max_size=30
    ),
    st.randoms(use_true_random=False),
)
def test_live_and_historical_deduplication_drop_the_same_events(
    events: list[tuple[int, str, int]], random: object
) -> None:
    """Whether they come in the order of their emission or not."""
    known = np.cumsum([step for _, _, step in events], dtype=np.int64)
    partitions = np.array([p for p, _, _ in events], np.int64)
    ids = [i for _, i, _ in events]
    expected = np.ones(len(events), bool)
    for number in (0, 1):
        at = np.flatnonzero(partitions == number)
        window = DeduplicationWindow(HORIZON)
        if len(at):
            expected[at] = window.first_sightings(
                sightings([ids[i] for i in at], known[at].tolist())
            )

    order = np.array(random.sample(range(len(events)), len(events)), np.int64)  # type: ignore[attr-defined]
    historical = first_sightings(
        ids=np.array([ord(i) for i in ids], np.int64)[order],
        partitions=partitions[order],
        offsets=np.arange(len(events))[order],
        known_at_us=known[order],
        horizon_us=HORIZON,
    )
    assert historical.tolist() == expected[order].tolist()

"""An event that was sent twice counts once, live and in history."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.engine.deduplication import DeduplicationWindow, SeenIds, first_sightings
from infra.kafka.partitions import Partition
from tests.support.examples import examples

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
    window.first_sightings(sightings(["old", "renewed"], [0, 0]))
    window.first_sightings(sightings(["renewed"], [9], first_offset=2))
    assert window.forget() == []

    window.first_sightings(sightings(["new"], [21], first_offset=3))
    assert window.forget() == [0]
    assert len(window) == 2
    assert window.first_sightings(sightings(["renewed"], [19], first_offset=4)).tolist() == [False]


def test_a_restarted_window_remembers_earlier_sightings() -> None:
    earlier = [sightings(["a", "b"], [0, 1]), sightings(["a"], [5], first_offset=2)]
    restarted = DeduplicationWindow(HORIZON, earlier)
    assert restarted.first_sightings(sightings(["a", "b"], [15, 15], 3)).tolist() == [False, True]


@examples(100)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.sampled_from("abc"), st.integers(0, 4)), max_size=30),
    st.randoms(use_true_random=False),
)
def test_live_and_historical_deduplication_drop_the_same_events(
    events: list[tuple[int, str, int]], random: object
) -> None:
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

"""A batch is answered when the store has what came before it, or after a bounded wait."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.engine.sorting import UNSET
from features.stores.memory import MemoryOnlineStore
from features.stores.ports import OnlineUpdate
from infra.kafka.errors import KafkaFailed
from infra.kafka.partitions import Partition, Positions
from serving.freshness import PAUSE_S, Freshness, complete_to_us

P0, P1 = Partition("told", 0), Partition("told", 1)
ASKED = 1_362_139_200_000_000
SAME_MS = ASKED + 999


def complete(
    *, newest: Mapping[Partition, int], at: Positions, ends: Positions, partitions: int = 2
) -> int:
    return complete_to_us(
        (P0, P1)[:partitions], newest_us=newest, positions=at, ends=ends, request_emitted_us=ASKED
    )


def test_a_partition_is_complete_up_to_its_newest_event() -> None:
    assert complete(newest={P0: ASKED, P1: ASKED + 5_000}, at={}, ends={}) == ASKED


def test_an_idle_partition_is_complete_by_its_end() -> None:
    ends = {P0: 7, P1: 0}
    assert complete(newest={P0: ASKED - 9_000_000}, at={P0: 7}, ends=ends) == SAME_MS
    assert complete(newest={P0: ASKED - 9_000_000}, at={P0: 6}, ends=ends) == ASKED - 9_000_000


def test_without_event_and_without_end_nothing_is_known() -> None:
    assert complete(newest={P0: ASKED}, at={P0: 1}, ends={}) == UNSET
    assert complete(newest={P0: ASKED}, at={P0: 1}, ends={P0: 1}) == UNSET


def test_a_service_without_views_lacks_nothing() -> None:
    assert complete(newest={}, at={}, ends={}, partitions=0) == SAME_MS


@given(
    sent=st.lists(st.tuples(st.sampled_from([P0, P1]), st.integers(0, 20)), max_size=30),
    applied=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    asked=st.integers(0, 20),
)
def test_nothing_emitted_before_a_complete_moment_is_missing(
    sent: list[tuple[Partition, int]], applied: tuple[int, int], asked: int
) -> None:
    """Two partitions, each in the order of emission; a request; the store somewhere behind."""
    rows = {p: sorted(t * 1_000 for q, t in sent if q == p) for p in (P0, P1)}
    at = {p: min(n, len(rows[p])) for p, n in zip((P0, P1), applied, strict=True)}
    # What comes after the request, in the records' order, was not there when the ends were asked.
    ends = {p: sum(t <= asked * 1_000 for t in rows[p]) for p in rows}
    newest = {p: rows[p][at[p] - 1] for p in rows if at[p]}
    moment = complete_to_us(
        (P0, P1), newest_us=newest, positions=at, ends=ends, request_emitted_us=asked * 1_000
    )
    missing = [t for p in rows for t in rows[p][at[p] :]]
    assert all(t >= moment or t > asked * 1_000 for t in missing)


class Scene:
    """A store, the brokers' ends, and a clock that only a wait moves."""

    def __init__(self, *, max_wait_s: float = 2.0) -> None:
        self.store, self.now, self.asked = MemoryOnlineStore(), 0.0, 0
        self.ends: Positions | KafkaFailed = {P0: 0, P1: 0}
        self.at_second: dict[int, Callable[[], None]] = {}
        self.freshness = Freshness(
            self.store,
            [P0, P1],
            open_ends=self._open,
            max_wait_s=max_wait_s,
            clock=lambda: self.now,
            sleep=self._sleep,
        )

    def apply(self, partition: Partition, end: int, newest_us: int = ASKED - 1_000) -> None:
        start = self.store.positions().get(partition, 0)
        self.store.apply(
            OnlineUpdate(
                changes=[],
                starts={partition: start},
                ends={partition: end},
                compacted_through_us=UNSET,
                newest_us={partition: newest_us},
            )
        )

    def waits(self) -> float:
        """How long a batch waits; its requests were emitted at ASKED."""
        begun = self.now
        self.complete_us = self.freshness.wait_for(ASKED)
        return self.now - begun

    @contextmanager
    def _open(self) -> Iterator[Callable[[], Positions]]:
        yield self._ask

    def _ask(self) -> Positions:
        self.asked += 1
        if isinstance(self.ends, KafkaFailed):
            raise self.ends
        return self.ends

    def _sleep(self, seconds: float) -> None:
        before = int(self.now)
        self.now += seconds
        if int(self.now) > before and int(self.now) in self.at_second:
            self.at_second.pop(int(self.now))()


def test_what_is_complete_is_answered_at_once_and_asks_nobody() -> None:
    scene = Scene()
    scene.apply(P0, 5, ASKED)
    scene.apply(P1, 5, ASKED + 1_000)
    assert scene.waits() == 0
    assert (scene.complete_us, scene.asked) == (ASKED, 0)


def test_idle_topics_are_asked_for_their_ends_once_a_batch() -> None:
    scene = Scene()
    assert scene.waits() == 0
    assert (scene.complete_us, scene.asked) == (SAME_MS, 1)


def test_a_batch_waits_until_the_end_as_of_its_coming_is_reached() -> None:
    scene = Scene()
    scene.ends = {P0: 3, P1: 0}
    scene.at_second[1] = lambda: scene.apply(P0, 3)
    assert scene.waits() == pytest.approx(1, abs=2 * PAUSE_S)
    assert (scene.complete_us, scene.asked) == (SAME_MS, 1)


def test_a_wait_ends_at_its_bound_and_what_is_lacking_shows() -> None:
    scene = Scene()
    scene.ends = {P0: 3, P1: 0}
    scene.apply(P0, 2)
    assert scene.waits() == pytest.approx(2, abs=2 * PAUSE_S)
    assert scene.complete_us == ASKED - 1_000


def test_while_ingest_stands_still_only_the_first_batch_waits() -> None:
    scene = Scene()
    scene.ends = {P0: 3, P1: 0}
    assert scene.waits() == pytest.approx(2, abs=2 * PAUSE_S)
    assert [scene.waits() for _ in range(5)] == [0] * 5

    scene.apply(P0, 1)  # it moves again, so waiting is worth it again
    scene.at_second[int(scene.now) + 1] = lambda: scene.apply(P0, 3)
    assert 0 < scene.waits() <= 1 + 2 * PAUSE_S
    assert scene.complete_us == SAME_MS


def test_while_ingest_moves_each_batch_may_wait() -> None:
    scene = Scene()
    scene.ends = {P0: 100, P1: 0}
    for n in range(1, 4):
        scene.at_second[int(scene.now) + 1] = partial(scene.apply, P0, n)
        assert scene.waits() == pytest.approx(2, abs=2 * PAUSE_S)


def test_a_wait_ends_when_it_is_told_to() -> None:
    scene = Scene()
    scene.ends = {P0: 3, P1: 0}
    assert scene.freshness.wait_for(ASKED, keep_waiting=lambda: scene.now < 0.5) == UNSET
    assert scene.now == pytest.approx(0.5, abs=2 * PAUSE_S)
    assert scene.waits() == pytest.approx(2, abs=2 * PAUSE_S)  # nobody has waited in vain yet


def test_without_an_answer_from_the_brokers_only_events_tell() -> None:
    scene = Scene()
    scene.ends = KafkaFailed("no broker")
    scene.apply(P0, 1, ASKED)
    scene.at_second[1] = lambda: scene.apply(P1, 1, ASKED)
    assert scene.waits() == pytest.approx(1, abs=2 * PAUSE_S)
    assert scene.complete_us == ASKED

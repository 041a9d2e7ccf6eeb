"""A batch is scored when the store has all earlier events, or after a bounded wait."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from features.engine.sorting import UNSET
from features.stores.memory import MemoryOnlineStore
from features.stores.ports import OnlineUpdate
from infra.kafka.errors import KafkaFailed
from infra.kafka.partitions import Partition, Positions
from serving.freshness import PARTITIONS_EVERY_S, PAUSE_S, Freshness, complete_to_us
from tests.support.by_hand import an_event, at, sent
from tests.support.generated.cases import Case
from tests.support.generated.paths import ingested

P0, P1 = Partition("reported", 0), Partition("reported", 1)
REQUESTED_US = 1_362_139_200_000_000
SAME_MS = REQUESTED_US + 999


def complete(
    *, newest: Mapping[Partition, int], at: Positions, ends: Positions, partitions: int = 2
) -> int:
    return complete_to_us(
        (P0, P1)[:partitions],
        newest_us=newest,
        positions=at,
        ends=ends,
        request_emitted_us=REQUESTED_US,
    )


def test_a_partition_is_complete_up_to_its_newest_event() -> None:
    assert (
        complete(newest={P0: REQUESTED_US, P1: REQUESTED_US + 5_000}, at={}, ends={})
        == REQUESTED_US
    )


def test_an_idle_partition_is_complete_by_its_end() -> None:
    ends = {P0: 7, P1: 0}
    assert complete(newest={P0: REQUESTED_US - 9_000_000}, at={P0: 7}, ends=ends) == SAME_MS
    assert (
        complete(newest={P0: REQUESTED_US - 9_000_000}, at={P0: 6}, ends=ends)
        == REQUESTED_US - 9_000_000
    )


def test_without_event_and_without_end_completeness_is_unknown() -> None:
    assert complete(newest={P0: REQUESTED_US}, at={P0: 1}, ends={}) == UNSET
    assert complete(newest={P0: REQUESTED_US}, at={P0: 1}, ends={P0: 1}) == UNSET


def test_a_partition_is_at_its_end_when_the_store_has_as_many_of_its_records() -> None:
    behind, at_end = UNSET, SAME_MS
    for position, expected in ((2, behind), (3, at_end), (4, at_end)):
        assert complete(newest={}, at={P0: position}, ends={P0: 3}, partitions=1) == expected
    assert complete(newest={}, at={}, ends={P0: 1}, partitions=1) == behind


def test_a_service_without_views_lacks_nothing() -> None:
    assert complete(newest={}, at={}, ends={}, partitions=0) == SAME_MS


@given(
    sent=st.lists(st.tuples(st.sampled_from([P0, P1]), st.integers(0, 20)), max_size=30),
    applied=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    requested=st.integers(0, 20),
)
def test_no_event_emitted_before_the_complete_moment_is_missing(
    sent: list[tuple[Partition, int]], applied: tuple[int, int], requested: int
) -> None:
    """Two partitions in order of emission, a request, and a store that lags."""
    rows = {p: sorted(t * 1_000 for q, t in sent if q == p) for p in (P0, P1)}
    at = {p: min(n, len(rows[p])) for p, n in zip((P0, P1), applied, strict=True)}
    # Records after the request were not there when the ends were read.
    ends = {p: sum(t <= requested * 1_000 for t in rows[p]) for p in rows}
    newest = {p: rows[p][at[p] - 1] for p in rows if at[p]}
    complete_us = complete_to_us(
        (P0, P1), newest_us=newest, positions=at, ends=ends, request_emitted_us=requested * 1_000
    )
    missing = [t for p in rows for t in rows[p][at[p] :]]
    assert all(t >= complete_us or t > requested * 1_000 for t in missing)


class Scene:
    """A store, the brokers' ends, and a clock that only a wait moves."""

    def __init__(self, *, max_wait_s: float = 2.0, now: float = 0.0) -> None:
        self.store, self.now, self.end_reads = MemoryOnlineStore(), now, 0
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

    def apply(self, partition: Partition, end: int, newest_us: int = REQUESTED_US - 1_000) -> None:
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
        """The wait of a batch in seconds; its requests were emitted at REQUESTED_US."""
        begun = self.now
        self.complete_us = self.freshness.wait_for(REQUESTED_US)
        return self.now - begun

    @contextmanager
    def _open(self) -> Iterator[Callable[[], Positions]]:
        yield self._read_ends

    def _read_ends(self) -> Positions:
        self.end_reads += 1
        if isinstance(self.ends, KafkaFailed):
            raise self.ends
        return self.ends

    def _sleep(self, seconds: float) -> None:
        second_before = int(self.now)
        self.now += seconds
        if int(self.now) > second_before and int(self.now) in self.at_second:
            self.at_second.pop(int(self.now))()


def records_behind() -> float | None:
    return REGISTRY.get_sample_value("eventide_serving_ingest_behind_records")


def test_a_complete_store_needs_no_wait_and_no_read_of_the_ends() -> None:
    scene = Scene()
    scene.apply(P0, 5, REQUESTED_US)
    scene.apply(P1, 5, REQUESTED_US + 1_000)
    assert scene.waits() == 0
    assert (scene.complete_us, scene.end_reads) == (REQUESTED_US, 0)


def test_a_store_that_is_ahead_of_a_request_needs_no_wait_and_no_read_of_the_ends() -> None:
    scene = Scene()
    for partition in (P0, P1):
        scene.apply(partition, 5, REQUESTED_US + 1_000)
    assert scene.waits() == 0
    assert (scene.complete_us, scene.end_reads) == (REQUESTED_US + 1_000, 0)


def test_without_permission_to_wait_a_batch_does_not_wait() -> None:
    scene = Scene(max_wait_s=0)
    scene.ends = {P0: 3, P1: 0}
    assert (scene.waits(), scene.complete_us) == (0, UNSET)


def test_the_metric_of_the_lag_counts_the_records_that_the_store_lacks() -> None:
    scene, added = Scene(max_wait_s=0), Partition("reported", 2)
    scene.apply(P0, 2)
    scene.apply(P1, 4)
    scene.ends = {P0: 5, P1: 2, added: 3}  # three of P0, none of P1, all of the new partition
    scene.waits()
    assert records_behind() == 3 + 0 + 3

    for partition, end in ((P0, 5), (P1, 5), (added, 3)):
        scene.apply(partition, end, REQUESTED_US)
    scene.waits()
    assert records_behind() == 0


def test_the_ends_of_idle_topics_are_read_once_per_batch() -> None:
    scene = Scene()
    assert scene.waits() == 0
    assert (scene.complete_us, scene.end_reads) == (SAME_MS, 1)


def test_a_batch_waits_until_the_ends_at_its_arrival_are_reached() -> None:
    scene = Scene()
    scene.ends = {P0: 3, P1: 0}
    scene.at_second[1] = lambda: scene.apply(P0, 3)
    assert scene.waits() == pytest.approx(1, abs=2 * PAUSE_S)
    assert (scene.complete_us, scene.end_reads) == (SAME_MS, 1)


def test_a_wait_ends_at_its_bound_and_reports_incompleteness() -> None:
    scene = Scene()
    scene.ends = {P0: 3, P1: 0}
    scene.apply(P0, 2)
    assert scene.waits() == pytest.approx(2, abs=2 * PAUSE_S)
    assert scene.complete_us == REQUESTED_US - 1_000


def test_while_ingest_is_stopped_only_the_first_batch_waits() -> None:
    scene = Scene()
    scene.ends = {P0: 3, P1: 0}
    assert scene.waits() == pytest.approx(2, abs=2 * PAUSE_S)
    assert [scene.waits() for _ in range(5)] == [0] * 5

    scene.apply(P0, 1)  # ingest advances again, so a batch waits again
    scene.at_second[int(scene.now) + 1] = lambda: scene.apply(P0, 3)
    assert 0 < scene.waits() <= 1 + 2 * PAUSE_S
    assert scene.complete_us == SAME_MS


@pytest.mark.parametrize("newest_us", [REQUESTED_US, REQUESTED_US + 1])
def test_a_batch_that_was_complete_ends_the_stall_of_an_earlier_one(newest_us: int) -> None:
    """The brokers did not answer the first batch; for the second one they name the end of P1."""
    scene = Scene()
    scene.apply(P0, 1, newest_us)
    scene.ends = KafkaFailed("no broker")
    assert scene.waits() == pytest.approx(2, abs=2 * PAUSE_S)
    assert scene.waits() == 0

    scene.ends = {P0: 2, P1: 0}
    assert (scene.waits(), scene.complete_us) == (0, newest_us)

    scene.ends = {P0: 2, P1: 1}
    assert scene.waits() == pytest.approx(2, abs=2 * PAUSE_S)


def test_while_ingest_advances_each_batch_may_wait() -> None:
    scene = Scene()
    scene.ends = {P0: 100, P1: 0}
    for n in range(1, 4):
        scene.at_second[int(scene.now) + 1] = partial(scene.apply, P0, n)
        assert scene.waits() == pytest.approx(2, abs=2 * PAUSE_S)


def test_a_wait_ends_on_request() -> None:
    scene = Scene()
    scene.ends = {P0: 3, P1: 0}
    assert scene.freshness.wait_for(REQUESTED_US, keep_waiting=lambda: scene.now < 0.5) == UNSET
    assert scene.now == pytest.approx(0.5, abs=2 * PAUSE_S)
    assert scene.waits() == pytest.approx(2, abs=2 * PAUSE_S)  # no wait has reached its bound yet


def test_while_the_brokers_do_not_answer_only_events_prove_completeness() -> None:
    scene = Scene()
    scene.ends = KafkaFailed("no broker")
    scene.apply(P0, 1, REQUESTED_US)
    scene.at_second[1] = lambda: scene.apply(P1, 1, REQUESTED_US)
    assert scene.waits() == pytest.approx(1, abs=2 * PAUSE_S)
    assert scene.complete_us == REQUESTED_US


@pytest.mark.parametrize("later_s", [PARTITIONS_EVERY_S, 60.0])
def test_a_partition_that_a_topic_has_got_makes_features_stale_until_it_is_applied(
    later_s: float,
) -> None:
    """Ingest does not read it yet: the partitions that were known say nothing about its events."""
    scene, added = Scene(now=100.0), Partition("reported", 2)
    for partition in (P0, P1):
        scene.apply(partition, 5, REQUESTED_US)
    scene.ends = {P0: 5, P1: 5, added: 1}
    assert scene.waits() == 0  # nothing was asked of the brokers within the last second

    scene.now += later_s
    assert scene.waits() == pytest.approx(2, abs=2 * PAUSE_S)
    assert scene.complete_us == UNSET

    scene.apply(added, 1, REQUESTED_US - 5_000)
    scene.now += later_s
    assert scene.waits() == 0
    assert scene.complete_us == SAME_MS


def test_an_event_that_is_known_later_than_emitted_proves_nothing_about_later_events() -> None:
    """Its type is known three days after it happened: the newest emission is what counts."""
    delayed = replace(an_event(cents=int), known_after=timedelta(days=3))
    case = Case(events=(delayed,), request=delayed, views=(), sent=(sent(delayed, 1, cents=1),))
    store = ingested(case, {"memory": MemoryOnlineStore()}).online["memory"]
    place = Partition(delayed.name, 0)
    assert store.newest_known_at_us() == {place: at(1)}
    complete_us = complete_to_us(
        [place],
        newest_us=store.newest_known_at_us(),
        positions=store.positions(),
        ends={place: 2},  # another event was emitted, which the store lacks
        request_emitted_us=at(60),
    )
    assert complete_us == at(1)

"""A plan selects a span and disturbs it reproducibly."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import FeatureError
from features.replay.lockstep import LockStep, Stalled, wait_for
from features.replay.plan import ReplayPlan, rows
from features.replay.replayer import AtSpeed
from infra.clock import HOUR, SECOND
from infra.kafka.partitions import Partition
from tests.support.examples import examples

REQUEST, EVENT = "asked", "told"
REQUESTS = frozenset({REQUEST})


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "r.parquet"
    n = 1_000
    pl.DataFrame(
        {
            "known_at_us": [i * SECOND for i in range(n)],
            "event": [REQUEST if i % 4 == 0 else EVENT for i in range(n)],
            "event_id": [f"e{i}" for i in range(n)],
            "key": [f"k{i % 7}" for i in range(n)],
            "payload": [b"{}"] * n,
        }
    ).write_parquet(path)
    return path


def test_a_span_includes_its_start_and_not_its_end(file: Path) -> None:
    plan = ReplayPlan(recording="r", from_us=10 * SECOND, until_us=20 * SECOND)
    assert rows(plan, file, requests=REQUESTS)["event_id"].to_list() == [
        f"e{i}" for i in range(10, 20)
    ]


def test_events_can_be_selected_or_excluded(file: Path) -> None:
    only = rows(ReplayPlan(recording="r", only=(REQUEST,)), file, requests=REQUESTS)
    without = rows(ReplayPlan(recording="r", without=(REQUEST,)), file, requests=REQUESTS)
    assert set(only["event"]) == {REQUEST}
    assert set(without["event"]) == {EVENT}
    assert len(only) + len(without) == 1_000


def test_an_unknown_event_is_refused_with_a_list_of_the_known(file: Path) -> None:
    with pytest.raises(FeatureError, match="no events \\['landed'\\]") as error:
        rows(ReplayPlan(recording="r", without=("landed",)), file, requests=REQUESTS)
    assert "told" in (error.value.hint or "")


def test_an_empty_span_and_a_fraction_above_one_are_refused() -> None:
    with pytest.raises(FeatureError, match="span is empty"):
        ReplayPlan(recording="r", from_us=5, until_us=5)
    with pytest.raises(FeatureError, match="fractions"):
        ReplayPlan(recording="r", late=1.5)


def test_different_plans_have_different_position_keys() -> None:
    assert ReplayPlan(recording="r").key == ReplayPlan(recording="r").key
    assert ReplayPlan(recording="r").key != ReplayPlan(recording="r", late=0.1).key


def test_an_option_at_its_default_does_not_change_the_position_key() -> None:
    assert ReplayPlan(recording="r", step_minutes=0).key == ReplayPlan(recording="r").key
    assert ReplayPlan(recording="r", step_minutes=1).key != ReplayPlan(recording="r").key


def test_with_steps_the_requests_of_a_step_follow_its_events(file: Path) -> None:
    plain = rows(ReplayPlan(recording="r"), file, requests=REQUESTS)
    stepped = rows(ReplayPlan(recording="r", step_minutes=5), file, requests=REQUESTS)
    assert stepped.sort("known_at_us").equals(plain)
    step = stepped["known_at_us"] // (300 * SECOND)
    assert step.is_sorted()
    for _, part in stepped.group_by(step.alias("step"), maintain_order=True):
        assert (part["event"] == REQUEST).is_sorted()
        assert all(part.filter(event=e)["known_at_us"].is_sorted() for e in (REQUEST, EVENT))


@examples(20)
@given(seed=st.integers(0, 2**32))
def test_disturbance_depends_on_the_seed_alone_and_spares_requests(file: Path, seed: int) -> None:
    plan = ReplayPlan(recording="r", late=0.2, duplicates=0.1, seed=seed)
    disturbed, disturbed_again = (rows(plan, file, requests=REQUESTS) for _ in range(2))
    assert disturbed.equals(disturbed_again)
    assert disturbed["known_at_us"].is_sorted()
    plain = rows(ReplayPlan(recording="r"), file, requests=REQUESTS)
    assert disturbed.filter(event=REQUEST).equals(plain.filter(event=REQUEST))
    assert set(disturbed["event_id"]) == set(plain["event_id"])
    earliest = (
        disturbed.group_by("event_id")
        .agg(pl.col("known_at_us").min())
        .join(plain, on="event_id", suffix="_plain")
    )
    assert (earliest["known_at_us"] >= earliest["known_at_us_plain"]).all()


def test_a_speed_is_kept_by_pausing_before_each_batch(file: Path) -> None:
    frame = rows(ReplayPlan(recording="r"), file, requests=REQUESTS)
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    pace = AtSpeed(frame, speed=10.0, clock=lambda: now[0], sleep=sleep)
    start = 0
    while start < 100:
        end = pace.batch_end(start)
        pace.before(start, end)
        start = end
    assert start == 100
    assert now[0] == pytest.approx(9.9)  # 99 seconds of events at ten times their speed
    assert max(slept) <= 1.001


def test_in_lock_step_a_request_waits_for_all_earlier_events(file: Path) -> None:
    frame = rows(ReplayPlan(recording="r"), file, requests=REQUESTS)
    partition = Partition(EVENT, 0)
    calls: list[int] = []

    def applied() -> dict[Partition, int]:
        calls.append(1)
        return {partition: len(calls)}  # one record further at each call

    pace = LockStep(
        frame, requests=REQUESTS, applied=applied, answered=dict, batch=100, sent_before={}
    )
    assert [pace.batch_end(s) for s in (0, 1, 4, 5)] == [1, 4, 5, 8]
    pace.before(1, 4)
    pace.after(1, 4, {partition: 3})
    assert calls == []
    pace.before(4, 5)
    assert len(calls) == 3


def test_requests_stay_within_reach_of_unanswered_ones(file: Path) -> None:
    frame = rows(ReplayPlan(recording="r"), file, requests=REQUESTS)
    partition = Partition(REQUEST, 0)
    calls: list[int] = []

    def answered() -> dict[Partition, int]:
        calls.append(1)
        return {partition: 1}

    pace = LockStep(
        frame,
        requests=REQUESTS,
        applied=dict,
        answered=answered,
        batch=100,
        sent_before={},
        ahead_us=6 * SECOND,
    )
    pace.after(0, 1, {partition: 1})
    pace.before(4, 5)
    assert calls == []
    pace.before(8, 9)
    assert calls == [1]


def test_requests_from_before_a_restart_are_answered_before_the_next_request(file: Path) -> None:
    frame = rows(ReplayPlan(recording="r"), file, requests=REQUESTS)
    earlier = Partition(REQUEST, 3)
    calls: list[int] = []

    def answered() -> dict[Partition, int]:
        calls.append(1)
        return {earlier: 3 + len(calls)}

    pace = LockStep(
        frame,
        requests=REQUESTS,
        applied=lambda: {earlier: 7},
        answered=answered,
        batch=100,
        sent_before={earlier: 7},
    )
    pace.before(4, 5)
    assert len(calls) == 4


def test_a_wait_ends_when_the_replay_is_to_stop() -> None:
    wait_for(dict, {Partition("flights", 0): 5}, reason="", stopping=lambda: True)


def test_a_wait_without_progress_fails_and_names_the_lag() -> None:
    with pytest.raises(Stalled, match=r"ingest .* 5 records of flights"):
        wait_for(dict, {Partition("flights", 0): 5}, reason="ingest is behind:", patience_s=0.01)


def test_progress_renews_the_patience() -> None:
    partition, reached = Partition("t", 0), [0]

    def positions() -> dict[Partition, int]:
        reached[0] += 1
        return {partition: reached[0]}

    remaining: list[int] = []
    wait_for(positions, {partition: 50}, reason="", patience_s=5.0, on_progress=remaining.append)
    assert remaining == list(range(49, 0, -1))


def test_the_default_reach_is_shorter_than_the_default_hold() -> None:
    from features.replay.lockstep import AHEAD_US

    assert AHEAD_US < 12 * HOUR  # the default hold, within which the online store is exact

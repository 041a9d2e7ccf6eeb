"""A plan chooses a span and disturbs it, the same way every time."""

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

ASKED, TOLD = "asked", "told"
REQUESTS = frozenset({ASKED})


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "r.parquet"
    n = 1_000
    pl.DataFrame(
        {
            "known_at_us": [i * SECOND for i in range(n)],
            "event": [ASKED if i % 4 == 0 else TOLD for i in range(n)],
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


def test_events_can_be_chosen_or_left_out(file: Path) -> None:
    only = rows(ReplayPlan(recording="r", only=(ASKED,)), file, requests=REQUESTS)
    without = rows(ReplayPlan(recording="r", without=(ASKED,)), file, requests=REQUESTS)
    assert set(only["event"]) == {ASKED}
    assert set(without["event"]) == {TOLD}
    assert len(only) + len(without) == 1_000


def test_an_unknown_event_is_refused_with_what_there_is(file: Path) -> None:
    with pytest.raises(FeatureError, match="no events \\['landed'\\]") as error:
        rows(ReplayPlan(recording="r", without=("landed",)), file, requests=REQUESTS)
    assert "told" in (error.value.hint or "")


def test_an_empty_span_and_a_fraction_above_one_are_refused() -> None:
    with pytest.raises(FeatureError, match="span is empty"):
        ReplayPlan(recording="r", from_us=5, until_us=5)
    with pytest.raises(FeatureError, match="fractions"):
        ReplayPlan(recording="r", late=1.5)


def test_another_plan_has_another_position() -> None:
    assert ReplayPlan(recording="r").key == ReplayPlan(recording="r").key
    assert ReplayPlan(recording="r").key != ReplayPlan(recording="r", late=0.1).key


def test_an_option_at_its_default_leaves_no_trace_in_the_position() -> None:
    assert ReplayPlan(recording="r", step_minutes=0).key == ReplayPlan(recording="r").key
    assert ReplayPlan(recording="r", step_minutes=1).key != ReplayPlan(recording="r").key


def test_in_steps_the_requests_of_a_step_follow_its_events(file: Path) -> None:
    plain = rows(ReplayPlan(recording="r"), file, requests=REQUESTS)
    stepped = rows(ReplayPlan(recording="r", step_minutes=5), file, requests=REQUESTS)
    assert stepped.sort("known_at_us").equals(plain)
    step = stepped["known_at_us"] // (300 * SECOND)
    assert step.is_sorted()
    for _, part in stepped.group_by(step.alias("step"), maintain_order=True):
        assert (part["event"] == ASKED).is_sorted()
        assert all(part.filter(event=e)["known_at_us"].is_sorted() for e in (ASKED, TOLD))


@examples(20)
@given(seed=st.integers(0, 2**32))
def test_disturbance_depends_on_the_seed_alone_and_spares_requests(file: Path, seed: int) -> None:
    plan = ReplayPlan(recording="r", late=0.2, duplicates=0.1, seed=seed)
    one, two = (rows(plan, file, requests=REQUESTS) for _ in range(2))
    assert one.equals(two)
    assert one["known_at_us"].is_sorted()
    plain = rows(ReplayPlan(recording="r"), file, requests=REQUESTS)
    assert one.filter(event=ASKED).equals(plain.filter(event=ASKED))
    assert set(one["event_id"]) == set(plain["event_id"])
    first = (
        one.group_by("event_id")
        .agg(pl.col("known_at_us").min())
        .join(plain, on="event_id", suffix="_plain")
    )
    assert (first["known_at_us"] >= first["known_at_us_plain"]).all()


def test_a_speed_is_kept_by_waiting_for_the_last_event_of_a_batch(file: Path) -> None:
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


def test_in_lock_step_a_request_waits_for_what_was_told_before(file: Path) -> None:
    frame = rows(ReplayPlan(recording="r"), file, requests=REQUESTS)
    told = Partition(TOLD, 0)
    asked_for: list[int] = []

    def applied() -> dict[Partition, int]:
        asked_for.append(1)
        return {told: len(asked_for)}  # one record further at each look

    pace = LockStep(
        frame, requests=REQUESTS, applied=applied, answered=dict, batch=100, sent_before={}
    )
    assert [pace.batch_end(s) for s in (0, 1, 4, 5)] == [1, 4, 5, 8]
    pace.before(1, 4)
    pace.after(1, 4, {told: 3})
    assert asked_for == []
    pace.before(4, 5)
    assert len(asked_for) == 3


def test_requests_stay_within_reach_of_their_answers(file: Path) -> None:
    frame = rows(ReplayPlan(recording="r"), file, requests=REQUESTS)
    asked = Partition(ASKED, 0)
    answers: list[int] = []

    def answered() -> dict[Partition, int]:
        answers.append(1)
        return {asked: 1}

    pace = LockStep(
        frame,
        requests=REQUESTS,
        applied=dict,
        answered=answered,
        batch=100,
        sent_before={},
        ahead_us=6 * SECOND,
    )
    pace.after(0, 1, {asked: 1})
    pace.before(4, 5)
    assert answers == []
    pace.before(8, 9)
    assert answers == [1]


def test_what_was_asked_before_a_restart_is_answered_before_the_next_request(file: Path) -> None:
    frame = rows(ReplayPlan(recording="r"), file, requests=REQUESTS)
    earlier = Partition(ASKED, 3)
    answers: list[int] = []

    def answered() -> dict[Partition, int]:
        answers.append(1)
        return {earlier: 3 + len(answers)}

    pace = LockStep(
        frame,
        requests=REQUESTS,
        applied=lambda: {earlier: 7},
        answered=answered,
        batch=100,
        sent_before={earlier: 7},
    )
    pace.before(4, 5)
    assert len(answers) == 4


def test_a_wait_ends_when_the_replay_is_to_stop() -> None:
    wait_for(dict, {Partition("flights", 0): 5}, reason="", stopping=lambda: True)


def test_a_wait_without_progress_ends_and_names_what_lags() -> None:
    with pytest.raises(Stalled, match=r"ingest .* 5 records of flights"):
        wait_for(dict, {Partition("flights", 0): 5}, reason="ingest is behind:", patience_s=0.01)


def test_progress_renews_the_patience() -> None:
    partition, reached = Partition("t", 0), [0]

    def positions() -> dict[Partition, int]:
        reached[0] += 1
        return {partition: reached[0]}

    left: list[int] = []
    wait_for(positions, {partition: 50}, reason="", patience_s=5.0, on_progress=left.append)
    assert left == list(range(49, 0, -1))


def test_hours_are_what_the_default_reach_is_made_of() -> None:
    from features.replay.lockstep import AHEAD_US

    assert AHEAD_US < 12 * HOUR  # what the online store answers exactly, by default

"""A run trains on rows known before the first decision of its evaluation."""

from datetime import date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.clock import DAY, HOUR, from_us, span_us
from ml.evaluation.split import day_blocks, in_evaluation, in_training, missing_days, window_of
from ml.projects.flight_delay import PROJECT

WINDOW = window_of(PROJECT, date(2013, 4, 1))
WAIT_US = span_us(PROJECT.label.max_wait)
NEAR = st.integers(WINDOW.training_end_us - 3 * DAY, WINDOW.cutoff_us + 3 * DAY)


def test_the_cut_off_of_a_run_is_the_cut_off_hour_of_its_day() -> None:
    assert from_us(WINDOW.cutoff_us) == datetime.fromisoformat("2013-04-01T09:00:00+00:00")


def test_the_evaluation_is_a_week_whose_labels_had_a_day_to_mature() -> None:
    assert WINDOW.evaluation_end_us == WINDOW.cutoff_us - WAIT_US
    assert WINDOW.evaluation_end_us - WINDOW.evaluation_start_us == 7 * DAY


@given(decided=st.lists(NEAR, min_size=1), waits=st.data())
def test_no_row_is_in_both_training_and_evaluation(
    decided: list[int], waits: st.DataObject
) -> None:
    decisions = np.array(decided, np.int64)
    delays = waits.draw(
        st.lists(st.integers(0, 3 * DAY), min_size=len(decided), max_size=len(decided))
    )
    known_us = decisions + np.array(delays, np.int64)
    learnt = in_training(WINDOW, decided_us=decisions, known_us=known_us)
    judged = in_evaluation(WINDOW, decided_us=decisions)
    assert not (learnt & judged).any()
    if judged.any() and learnt.any():
        assert known_us[learnt].max() < decisions[judged].min()


@pytest.mark.parametrize(
    ("decided_ago", "known_ago", "learnt"),
    [
        (timedelta(hours=30), timedelta(hours=20), True),
        (timedelta(hours=30), timedelta(hours=0), False),  # known at the first judged decision
        (timedelta(hours=24), timedelta(hours=20), False),  # no older than the longest wait
        (timedelta(hours=23), timedelta(hours=20), False),
        (timedelta(days=400), timedelta(days=399), True),
        (timedelta(days=401), timedelta(days=400), False),  # beyond the history
    ],
)
def test_a_row_is_in_training_when_it_is_old_enough_and_known(
    decided_ago: timedelta, known_ago: timedelta, learnt: bool
) -> None:
    start = WINDOW.evaluation_start_us
    decided = np.array([start - span_us(decided_ago)])
    known_us = np.array([start - span_us(known_ago)])
    assert in_training(WINDOW, decided_us=decided, known_us=known_us).tolist() == [learnt]


def test_a_decision_without_a_label_is_never_in_training() -> None:
    decided = np.array([WINDOW.training_start_us + HOUR])
    never = np.array([np.iinfo(np.int64).max])
    assert not in_training(WINDOW, decided_us=decided, known_us=never).any()


def test_the_evaluation_begins_with_its_first_moment_and_stops_before_its_end() -> None:
    start, end = WINDOW.evaluation_start_us, WINDOW.evaluation_end_us
    decided = np.array([start - 1, start, start + 1, end - 1, end, end + 1])
    judged = in_evaluation(WINDOW, decided_us=decided)
    assert judged.tolist() == [False, True, True, True, False, False]


def test_days_begin_at_the_cut_off_hour() -> None:
    start = WINDOW.evaluation_start_us
    assert day_blocks(WINDOW, np.array([start - 1, start, start + DAY - 1])).tolist() == [-1, 0, 0]


def test_each_day_without_a_decision_counts_as_missing() -> None:
    noons = WINDOW.evaluation_start_us + np.arange(-20, 7) * DAY + 12 * HOUR
    assert missing_days(WINDOW, noons) == 0
    assert missing_days(WINDOW, np.delete(noons, [5, 6, 25])) == 3
    assert missing_days(WINDOW, noons[:-1]) == 1  # the last one counts too
    assert missing_days(WINDOW, np.empty(0, np.int64)) == 7


def test_days_after_the_evaluation_make_up_for_none_in_it() -> None:
    days = np.array([3, 7, 8])  # the evaluation has the days 0 to 6
    assert missing_days(WINDOW, WINDOW.evaluation_start_us + days * DAY) == 6

"""Sorting by group and time: many rows with a radix sort, few by comparison."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.engine.intervals import last_existing
from features.engine.sorting import (
    HIGHEST,
    RADIX_FROM,
    UNSET,
    Order,
    running_maximum,
    two_highest,
)
from tests.support.examples import examples

MANY = RADIX_FROM + 50_000


@pytest.mark.parametrize("groups", [1, 300, 70_000])
def test_many_rows_are_sorted_stably_by_group_and_time(groups: int) -> None:
    chance = np.random.default_rng(13)
    group = chance.integers(0, groups, MANY)
    time = np.arange(MANY) // 7 + chance.integers(-50, 50, MANY)  # nearly in order, with ties
    time[chance.integers(0, MANY, 100)] = UNSET
    result = Order(group, time)
    assert result.order.tolist() == np.lexsort((time, group)).tolist()


def test_the_count_of_rows_before_a_moment_is_right_for_many_rows() -> None:
    chance = np.random.default_rng(17)
    group, time = chance.integers(0, 70_000, MANY), chance.integers(0, 1_000, MANY)
    queries = chance.integers(0, 70_002, 500), chance.integers(-5, 1_005, 500)
    earlier = group[None, :] < queries[0][:, None]
    same = (group[None, :] == queries[0][:, None]) & (time[None, :] < queries[1][:, None])
    assert Order(group, time).before(*queries).tolist() == (earlier | same).sum(axis=1).tolist()


ranks = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 2)), max_size=30)


@examples(300)
@given(ranks)
def test_the_two_highest_of_different_codes_are_those_of_a_plain_loop(
    rows: list[tuple[int, int, int]],
) -> None:
    rows = sorted(rows, key=lambda row: row[0])
    segment, rank, code = (np.array([row[i] for row in rows], np.int64) for i in range(3))
    two = two_highest(rank, code, segment)
    for i, (own, _, _) in enumerate(rows):
        before = [row for row in rows[: i + 1] if row[0] == own]
        highest = max(r for _, r, _ in before)
        assert two.highest[i] == highest
        assert (own, highest, two.code[i]) in before
        others = [r for _, r, c in before if c != two.code[i]]
        assert two.of_other_codes[i] == max(others, default=-1)


@examples(200)
@given(ranks)
def test_the_running_maximum_begins_again_at_each_segment(rows: list[tuple[int, int, int]]) -> None:
    rows = sorted(rows, key=lambda row: row[0])
    wide = [UNSET, -(1 << 62), 0, 1 << 62, HIGHEST]
    segment, values = np.array([r[0] for r in rows], np.int64), [wide[r[1]] for r in rows]
    maxima = running_maximum(np.array(values, np.int64), segment)
    for i in range(len(rows)):
        own = [values[j] for j in range(i + 1) if segment[j] == segment[i]]
        assert maxima[i] == max(own)


spans = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=12)


@examples(300)
@given(spans, st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=20))
def test_the_last_existing_item_is_that_of_a_plain_loop(
    items: list[tuple[int, int]], wanted: list[tuple[int, int]]
) -> None:
    begin, end = (np.array([min(s[i], len(wanted)) for s in items], np.int64) for i in (0, 1))
    first, stop = (np.array([min(w[i], len(items)) for w in wanted], np.int64) for i in (0, 1))
    last = last_existing(begin, end, first=first, stop=stop)
    for moment, (a, b) in enumerate(zip(first, stop, strict=True)):
        existing = [i for i in range(len(items)) if begin[i] <= moment < end[i] and a <= i < b]
        assert last[moment] == max(existing, default=-1)

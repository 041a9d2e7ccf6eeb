"""Sorting by group and time: many rows with a radix sort, few by comparison."""

import numpy as np
import pytest

from features.engine.sorting import RADIX_FROM, UNSET, Order, chunks

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


def test_queries_are_computed_in_parts_that_fit_into_memory() -> None:
    sizes = np.array([3, 3, 3, 0, 9, 1])
    assert chunks(sizes, at_once=6) == [(0, 2), (2, 5), (5, 6)]
    assert chunks(sizes) == [(0, 6)]

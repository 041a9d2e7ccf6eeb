"""Trees that a reader could get lost in are refused, by the rule that they break."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ml.bundle.format import Trees
from ml.bundle.tree_arrays import (
    CATEGORY,
    LEAF,
    MAX_CATEGORY,
    NUMBER,
    TreeArrays,
    check_trees,
    pack_trees,
    unpack_trees,
)
from ml.bundle.tree_scorer import tree_scorer
from ml.errors import BundleRefused

NAN, INF = float("nan"), float("inf")
HEADER = Trees(trees=2, nodes=6, categories=2, base_score=0.5)


def two_trees() -> TreeArrays:
    """One asks `number <= 1.5`, then `category in {1, 3}`; the other is a leaf of 0.125."""
    return TreeArrays(
        tree_end=np.array([5, 6], np.int32),
        kind=np.array([NUMBER, LEAF, CATEGORY, LEAF, LEAF, LEAF], np.uint8),
        column=np.array([0, -1, 1, -1, -1, -1], np.int32),
        left=np.array([1, -1, 3, -1, -1, -1], np.int32),
        right=np.array([2, -1, 4, -1, -1, -1], np.int32),
        missing_left=np.array([1, 0, 0, 0, 0, 0], np.uint8),
        value=np.array([1.5, 0.25, 0, -1, 2, 0.125]),
        category_end=np.array([0, 0, 2, 2, 2, 2], np.int32),
        category=np.array([1, 3], np.uint32),
    )


def test_a_score_is_the_sigmoid_of_the_base_score_and_a_leaf_of_each_tree() -> None:
    blob = pack_trees(two_trees())
    score = tree_scorer(unpack_trees(blob, HEADER, columns=2), base_score=0.5, columns=2)
    rows = np.array([[1.5, 0], [NAN, 0], [2, 1], [2, 3], [2, 2], [2, NAN], [INF, -1], [2, 1e18]])
    sums = 0.5 + 0.125 + np.array([0.25, 0.25, -1, -1, 2, 2, 2, 2])
    assert np.abs(score(rows) - 1 / (1 + np.exp(-sums))).max() <= 1e-15


def changed(name: str, place: int, value: Any) -> TreeArrays:
    arrays = two_trees()
    array = getattr(arrays, name).copy()
    array[place] = value
    return replace(arrays, **{name: array})


@pytest.mark.parametrize(
    ("arrays", "rule"),
    [
        (changed("tree_end", 0, 0), "each tree has a node"),
        (changed("tree_end", 0, 6), "each tree has a node"),
        (changed("tree_end", 0, -1), "each tree has a node"),
        (changed("tree_end", 1, 7), "hold all nodes"),
        (changed("kind", 0, 3), "a leaf or a test"),
        (changed("missing_left", 0, 2), "to the left or to the right"),
        (changed("column", 0, 2), "a column of the model"),
        (changed("column", 2, -1), "a column of the model"),
        (changed("value", 1, NAN), "a leaf is finite"),
        (changed("value", 5, INF), "a leaf is finite"),
        (changed("value", 0, NAN), "bound of a test is a number"),
        (changed("left", 2, 0), "behind its parent"),  # a circle
        (changed("left", 2, 2), "behind its parent"),
        (changed("right", 0, 5), "in its tree"),  # into the next tree
        (changed("right", 0, 2**31 - 1), "in its tree"),
        (changed("left", 0, -1), "behind its parent"),
        (changed("left", 0, 2), "one parent"),
        (changed("kind", 3, NUMBER), "a column of the model"),
        (changed("category_end", 1, 1), "follow each other|only a test of categories"),
        (changed("category_end", 2, 3), "follow each other"),
        (changed("category_end", 5, 1), "follow each other"),
        (changed("category_end", 0, -1), "follow each other"),
        (changed("category", 0, MAX_CATEGORY), "number of the encoder"),
    ],
)
def test_a_broken_rule_is_named(arrays: TreeArrays, rule: str) -> None:
    with pytest.raises(BundleRefused, match=rule):
        check_trees(arrays, columns=2)


@pytest.mark.parametrize(
    "header",
    [
        Trees(trees=2, nodes=6, categories=3, base_score=0),
        Trees(trees=0, nodes=0, categories=0, base_score=0),
        Trees(trees=-1, nodes=6, categories=2, base_score=0),
        Trees(trees=2, nodes=2**62, categories=2, base_score=0),
    ],
)
def test_counts_that_are_not_those_of_the_file_are_refused(header: Trees) -> None:
    with pytest.raises(BundleRefused, match=r"bytes|negative"):
        unpack_trees(pack_trees(two_trees()), header, columns=2)


def test_no_trees_at_all_are_refused() -> None:
    with pytest.raises(BundleRefused, match="at least one tree"):
        unpack_trees(b"", Trees(trees=0, nodes=0, categories=0, base_score=0), columns=2)

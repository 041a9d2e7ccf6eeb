"""Boosted trees as plain arrays: their bytes in `trees.bin`, and the check of every index.

The score of a row is the sigmoid of `base_score` plus the value of one leaf of each tree. The bytes
are the arrays of `_layout` one after the other, little-endian, without any header: `Trees` in
`model.json` says how long each is.

A file that passes `unpack_trees` cannot lead a reader outside its arrays or in a circle, whatever
its bytes are: each child lies behind its parent and within the tree, each node but a root has one
parent, and each column exists.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.bundle.format import TREES, Trees
from ml.errors import BundleRefused

LEAF, NUMBER, CATEGORY = 0, 1, 2
"""Kinds of a node: a leaf, a test `number <= value`, a test of membership in categories."""

MAX_CATEGORY = 1 << 16
"""Categories are numbered by the encoder; the trees of scikit-learn know at most 255."""


@dataclass(frozen=True)
class TreeArrays:
    """The nodes of all trees, one after the other; the first node of a tree is its root.

    A test that holds leads to the left child; a missing number leads to it where `missing_left` is
    1. Children are indices into these arrays. The categories of a node are those of
    `category` between the `category_end` of the node before and its own.
    """

    tree_end: NDArray[np.int32]  # (trees,) the node after the last one of each tree
    kind: NDArray[np.uint8]  # (nodes,) LEAF, NUMBER or CATEGORY; so are the next six
    column: NDArray[np.int32]  # what a test reads; -1 in a leaf
    left: NDArray[np.int32]  # -1 in a leaf
    right: NDArray[np.int32]
    missing_left: NDArray[np.uint8]
    value: NDArray[np.float64]  # of a leaf: what it adds; of a NUMBER: the bound; else 0
    category_end: NDArray[np.int32]
    category: NDArray[np.uint32]  # (categories,)


def pack_trees(arrays: TreeArrays) -> bytes:
    """The bytes of `trees.bin`."""
    return b"".join(
        np.ascontiguousarray(getattr(arrays, name), dtype=dtype).tobytes()
        for name, dtype, _ in _layout(0, 0, 0)
    )


def unpack_trees(blob: bytes, header: Trees, *, columns: int) -> TreeArrays:
    """The arrays in the bytes of `trees.bin`, checked; they share its memory.

    Raises:
        BundleRefused: the bytes are not the arrays of well-formed trees over `columns` columns.
    """
    if min(header.trees, header.nodes, header.categories) < 0:
        raise BundleRefused(f"the counts of the trees are negative: {header}")
    layout = list(_layout(header.trees, header.nodes, header.categories))
    expected = sum(np.dtype(dtype).itemsize * length for _, dtype, length in layout)
    if len(blob) != expected:
        raise BundleRefused(f"{TREES} has {len(blob)} bytes; {header} needs {expected}")
    parts, place = {}, 0
    for name, dtype, length in layout:
        parts[name] = np.frombuffer(blob, dtype, count=length, offset=place)
        place += parts[name].nbytes
    arrays = TreeArrays(**parts)
    check_trees(arrays, columns=columns)
    return arrays


def check_trees(arrays: TreeArrays, *, columns: int) -> None:
    """Check every index and number.

    Raises:
        BundleRefused: the first rule that is broken.
    """
    for rule, holds in _rules(arrays, columns):
        if not holds:
            raise BundleRefused(f"{TREES} holds no trees that can be scored: {rule}")


def node_ranges(arrays: TreeArrays) -> Iterator[range]:
    """The nodes of each tree."""
    begin = 0
    for end in arrays.tree_end.tolist():
        yield range(begin, end)
        begin = end


def _layout(trees: int, nodes: int, categories: int) -> Iterator[tuple[str, str, int]]:
    """Name, type and length of each array, in the order of the file."""
    types = {"tree_end": "<i4", "kind": "u1", "missing_left": "u1", "value": "<f8"}
    lengths = {"tree_end": trees, "category": categories}
    for field in fields(TreeArrays):
        dtype = "<u4" if field.name == "category" else types.get(field.name, "<i4")
        yield field.name, dtype, lengths.get(field.name, nodes)


def _rules(arrays: TreeArrays, columns: int) -> Iterator[tuple[str, bool]]:
    """Each rule and whether it holds. A rule may rely on those before it."""
    nodes = len(arrays.kind)
    begin = np.concatenate(([0], arrays.tree_end[:-1])) if len(arrays.tree_end) else arrays.tree_end
    yield "there is at least one tree", len(arrays.tree_end) > 0
    yield "each tree has a node", bool((arrays.tree_end > begin).all())
    yield "the trees hold all nodes", int(arrays.tree_end[-1]) == nodes
    yield "a node is a leaf or a test", bool((arrays.kind <= CATEGORY).all())
    yield (
        "a missing number goes to the left or to the right",
        bool((arrays.missing_left <= 1).all()),
    )
    yield from _rules_of_tests(arrays, columns)
    yield from _rules_of_children(arrays, begin)
    yield from _rules_of_categories(arrays)


def _rules_of_tests(arrays: TreeArrays, columns: int) -> Iterator[tuple[str, bool]]:
    leaf, number = arrays.kind == LEAF, arrays.kind == NUMBER
    tested = arrays.column[~leaf]
    yield "a test reads a column of the model", bool(((tested >= 0) & (tested < columns)).all())
    yield "the value of a leaf is finite", bool(np.isfinite(arrays.value[leaf]).all())
    yield "the bound of a test is a number", not bool(np.isnan(arrays.value[number]).any())


def _rules_of_children(arrays: TreeArrays, begin: NDArray[Any]) -> Iterator[tuple[str, bool]]:
    nodes = len(arrays.kind)
    end = np.repeat(arrays.tree_end, arrays.tree_end - begin)
    (tests,) = np.nonzero(arrays.kind != LEAF)
    children = np.concatenate((arrays.left[tests], arrays.right[tests]))
    parents = np.concatenate((tests, tests))
    yield (
        "a child lies behind its parent, in its tree",
        bool(((children > parents) & (children < end[parents])).all()),
    )
    expected = np.ones(nodes, np.int64)
    expected[begin] = 0
    yield (
        "each node but the first has one parent",
        bool(np.array_equal(np.bincount(children, minlength=nodes), expected)),
    )


def _rules_of_categories(arrays: TreeArrays) -> Iterator[tuple[str, bool]]:
    ends = arrays.category_end.astype(np.int64)
    lengths = np.diff(ends, prepend=0)
    yield "the categories of the nodes follow each other", bool((lengths >= 0).all())
    yield "the nodes hold all categories", int(ends[-1]) == len(arrays.category)
    yield "only a test of categories has some", not bool(lengths[arrays.kind != CATEGORY].any())
    yield "a category is a number of the encoder", bool((arrays.category < MAX_CATEGORY).all())

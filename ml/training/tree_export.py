"""The trees of a treelite model as the arrays of a bundle."""

from typing import Any

import numpy as np

from ml.bundle.format import Trees
from ml.bundle.tree_arrays import CATEGORY, LEAF, NUMBER, TreeArrays, check_trees, pack_trees
from ml.errors import UnsupportedPipeline

_KINDS = np.array([LEAF, NUMBER, CATEGORY], np.uint8)  # in the order of treelite's `node_type`
_AT_MOST = 3  # treelite's `cmp` for `<=`
_FLOAT64 = 3  # treelite's `threshold_type` and `leaf_output_type` for float64


def arrays_of(model: Any) -> tuple[Trees, bytes]:
    """The header and the bytes of a `treelite.Model`.

    Raises:
        UnsupportedPipeline: it is no sum of leaves of float64 under a sigmoid.
        BundleRefused: its trees are malformed.
    """
    header = model.get_header_accessor()
    _check_header(header)
    trees = [_tree(model.get_tree_accessor(i)) for i in range(model.num_tree)]
    arrays = _joined(trees)
    check_trees(arrays, columns=model.num_feature)
    counts = Trees(
        trees=len(arrays.tree_end),
        nodes=len(arrays.kind),
        categories=len(arrays.category),
        base_score=float(header.get_field("base_scores")[0]),
    )
    return counts, pack_trees(arrays)


def _check_header(header: Any) -> None:
    expected: dict[str, Any] = {
        "average_tree_output": [0],
        "num_target": [1],
        "num_class": [1],
        "leaf_vector_shape": [1, 1],
        "sigmoid_alpha": [1.0],
        "threshold_type": [_FLOAT64],
        "leaf_output_type": [_FLOAT64],
    }
    given = {name: np.asarray(header.get_field(name)).tolist() for name in expected}
    shared = [*header.get_field("target_id").tolist(), *header.get_field("class_id").tolist()]
    if given != expected or header.get_field("postprocessor") != "sigmoid" or any(shared):
        raise UnsupportedPipeline(f"the trees are no sum under a sigmoid: {given}")


def _tree(tree: Any) -> TreeArrays:
    """One tree, with children counted from its own root."""
    kind = _KINDS[tree.get_field("node_type")]
    if (tree.get_field("cmp")[kind == NUMBER] != _AT_MOST).any():
        raise UnsupportedPipeline("a test of the trees is not of the form `number <= bound`")
    if tree.get_field("category_list_right_child").any():
        raise UnsupportedPipeline("a test of categories leads to the right")
    ends = np.where(kind == CATEGORY, tree.get_field("category_list_end"), 0)
    return TreeArrays(
        tree_end=np.array([len(kind)], np.int32),
        kind=kind,
        column=np.where(kind == LEAF, -1, tree.get_field("split_index")),
        left=tree.get_field("cleft"),
        right=tree.get_field("cright"),
        missing_left=tree.get_field("default_left"),
        value=np.where(kind == LEAF, tree.get_field("leaf_value"), tree.get_field("threshold")),
        # A node without categories ends where the one before it does.
        category_end=np.maximum.accumulate(ends.astype(np.int64)),
        category=tree.get_field("category_list"),
    )


def _joined(trees: list[TreeArrays]) -> TreeArrays:
    """All trees in one set of arrays: indices count from its start."""
    nodes, categories = 0, 0
    shifted = []
    for tree in trees:
        test = tree.kind != LEAF
        shifted.append(
            {
                **vars(tree),
                "tree_end": tree.tree_end + nodes,
                "left": np.where(test, tree.left + nodes, -1),
                "right": np.where(test, tree.right + nodes, -1),
                "category_end": tree.category_end + categories,
            }
        )
        nodes += len(tree.kind)
        categories += len(tree.category)
    return TreeArrays(**{name: np.concatenate([t[name] for t in shifted]) for name in shifted[0]})

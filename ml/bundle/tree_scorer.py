"""A scorer of trees, built from checked arrays: treelite never reads a file of ours."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.bundle.tree_arrays import LEAF, NUMBER, TreeArrays, node_ranges

Float64Array = NDArray[np.float64]


def tree_scorer(
    arrays: TreeArrays, *, base_score: float, columns: int
) -> Callable[[Float64Array], Float64Array]:
    """`(n, columns)` encoded rows -> the probability of each, `(n,)`.

    `arrays` have passed `check_trees`.
    """
    from treelite import gtil

    model = _model(arrays, base_score=base_score, columns=columns)

    def estimate(encoded: Float64Array) -> Float64Array:
        scores = gtil.predict(model, encoded, nthread=1)
        return np.asarray(scores, dtype=np.float64).reshape(len(encoded), -1)[:, -1]

    return estimate


def _model(arrays: TreeArrays, *, base_score: float, columns: int) -> Any:
    builder = _builder(len(arrays.tree_end), base_score=base_score, columns=columns)
    nodes = _Nodes(arrays)
    for tree in node_ranges(arrays):
        builder.start_tree()
        for node in tree:
            builder.start_node(node)
            nodes.add(node, builder)
            builder.end_node()
        builder.end_tree()
    return builder.commit()


def _builder(trees: int, *, base_score: float, columns: int) -> Any:
    from treelite.model_builder import Metadata, ModelBuilder, PostProcessorFunc, TreeAnnotation

    return ModelBuilder(
        threshold_type="float64",
        leaf_output_type="float64",
        metadata=Metadata(
            num_feature=columns,
            task_type="kBinaryClf",
            average_tree_output=False,
            num_target=1,
            num_class=[1],
            leaf_vector_shape=(1, 1),
        ),
        tree_annotation=TreeAnnotation(num_tree=trees, target_id=[0] * trees, class_id=[0] * trees),
        postprocessor=PostProcessorFunc(name="sigmoid"),
        base_scores=[base_score],
    )


class _Nodes:
    """The arrays as lists: a builder is given one node after the other."""

    def __init__(self, arrays: TreeArrays) -> None:
        self._kind, self._column = arrays.kind.tolist(), arrays.column.tolist()
        self._left, self._right = arrays.left.tolist(), arrays.right.tolist()
        self._missing_left, self._value = arrays.missing_left.tolist(), arrays.value.tolist()
        self._category_end, self._category = arrays.category_end.tolist(), arrays.category.tolist()

    def add(self, node: int, builder: Any) -> None:
        """Give the builder, which has started the node, its leaf or its test."""
        if self._kind[node] == LEAF:
            builder.leaf(self._value[node])
            return
        places = {
            "default_left": bool(self._missing_left[node]),
            "left_child_key": self._left[node],
            "right_child_key": self._right[node],
        }
        if self._kind[node] == NUMBER:
            builder.numerical_test(self._column[node], self._value[node], opname="<=", **places)
        else:
            builder.categorical_test(
                self._column[node],
                category_list=self._categories(node),
                category_list_right_child=False,
                **places,
            )

    def _categories(self, node: int) -> list[int]:
        begin = self._category_end[node - 1] if node else 0
        categories: list[int] = self._category[begin : self._category_end[node]]
        return categories

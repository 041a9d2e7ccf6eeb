"""A fitted pipeline as plain data: encoder tables and the estimator's numbers.

The table of a category is made by asking the fitted encoder for each value that it knows and for
one that it cannot know, so any encoder of a single column is taken. Numbers may pass through or be
filled by a constant and scaled. The estimator may be histogram gradient boosting or logistic
regression. Whatever else a pipeline holds is refused, never guessed.
"""

import math
from collections.abc import Sequence
from typing import Any

from ml.bundle.format import (
    BundleInfo,
    CategoryBlock,
    Linear,
    ModelFile,
    NumberBlock,
    Trees,
    only_read,
)
from ml.errors import UnsupportedPipeline
from ml.training.tree_export import arrays_of

UNKNOWN = "\x00 a value that no training set holds"


def export_pipeline(
    pipeline: Any, *, info: BundleInfo, categories: Sequence[str], numbers: Sequence[str]
) -> tuple[ModelFile, bytes | None]:
    """The bundle's model file for a fitted pipeline, and the blob of its trees, if it has any.

    `categories`, `numbers`: the columns that the pipeline may read; those that it does not read are
    left out. Meanings are not recorded yet.

    Raises:
        UnsupportedPipeline: it holds a part that cannot be written as data.
    """
    columns, estimator = pipeline.named_steps["columns"], pipeline.named_steps["model"]
    numbers_given, categories_given = tuple(numbers), tuple(categories)
    encoder = tuple(
        _category_block(part, own[0])
        if set(own) <= set(categories_given)
        else _number_block(part, own)
        for name, part, own in columns.transformers_
        if name != "remainder" and len(own)
    )
    if list(estimator.classes_) != [0, 1]:
        raise UnsupportedPipeline(f"the estimator knows the classes {list(estimator.classes_)}")
    data, trees = _estimator(estimator)
    model = ModelFile(
        info=info,
        categories=categories_given,
        numbers=numbers_given,
        encoder=encoder,
        estimator=data,
    )
    return only_read(model), trees


def _category_block(encoder: Any, column: str) -> CategoryBlock:
    import pandas as pd

    if len(encoder.feature_names_in_) != 1:
        raise UnsupportedPipeline(
            f"the encoder of {column!r} takes several columns",
            hint="give each category column a transformer of its own",
        )
    values = tuple(str(v) for v in encoder.categories_[0])
    frame = pd.DataFrame({column: pd.Series([*values, UNKNOWN], dtype=object)})
    rows = encoder.transform(frame)
    rows = rows.toarray() if hasattr(rows, "toarray") else rows
    table = [tuple(_no_nan(v) for v in row) for row in rows.astype(float).tolist()]
    return CategoryBlock(column=column, values=values, rows=tuple(table[:-1]), otherwise=table[-1])


def _no_nan(value: float) -> float | None:
    return None if math.isnan(value) else value


def _number_block(part: Any, columns: Sequence[str]) -> NumberBlock:
    steps = [] if part == "passthrough" else [s for _, s in getattr(part, "steps", [("", part)])]
    kinds = tuple(type(step).__name__ for step in steps)
    if kinds in ((), ("FunctionTransformer",)):
        if steps and steps[0].func is not None:
            raise UnsupportedPipeline("a FunctionTransformer with a function of its own")
        return NumberBlock(columns=tuple(columns))
    if kinds != ("SimpleImputer", "StandardScaler") or steps[0].add_indicator:
        raise UnsupportedPipeline(
            f"numbers are prepared by {kinds}",
            hint="pass them through, or use SimpleImputer and StandardScaler",
        )
    fill, scale = steps
    return NumberBlock(
        columns=tuple(columns),
        fill=_floats(fill.statistics_),
        shift=_floats(scale.mean_),
        scale=_floats(scale.scale_),
    )


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def _estimator(estimator: Any) -> tuple[Linear | Trees, bytes | None]:
    kind = type(estimator).__name__
    if kind == "LogisticRegression":
        weights, intercept = estimator.coef_[0], float(estimator.intercept_[0])
        return Linear(weights=_floats(weights), intercept=intercept), None
    if kind == "HistGradientBoostingClassifier":
        import treelite.sklearn

        return arrays_of(treelite.sklearn.import_model(estimator))
    raise UnsupportedPipeline(
        f"the estimator is a {kind}",
        hint="bundles hold HistGradientBoostingClassifier or LogisticRegression",
    )

"""Pipelines that a project can name as candidates.

Each takes a frame with the category columns (text, never null: missing is the empty text) and the
number columns (float64, NaN is missing). One transformer a category column, so that its table can
be written into a serving bundle; see `ml.training.bundle_export` for what may be used.
"""

from collections.abc import Sequence
from typing import Any

NEWTON = {"solver": "newton-cholesky", "max_iter": 200}
"""Options of `logistic_regression`: with few columns and many rows, Newton's method takes a quarter
of the default solver's time."""


def boosted_trees(
    categories: Sequence[str], numbers: Sequence[str], *, seed: int, **options: Any
) -> Any:
    """Histogram gradient boosting with native splits on categories and on missing numbers."""
    import numpy as np
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder

    def ordinal() -> OrdinalEncoder:
        return OrdinalEncoder(
            handle_unknown="use_encoded_value",
            unknown_value=np.nan,
            max_categories=200,  # the trees take 255 bins, one of them for missing
        )

    columns = ColumnTransformer(
        [
            *((f"category_{c}", ordinal(), [c]) for c in categories),
            ("numbers", "passthrough", list(numbers)),
        ],
        verbose_feature_names_out=False,
    )
    model = HistGradientBoostingClassifier(
        categorical_features=list(range(len(categories))) or None,
        early_stopping=False,  # would hold out rows at random, not by time
        random_state=seed,
        **options,
    )
    return Pipeline([("columns", columns), ("model", model)])


def logistic_regression(
    categories: Sequence[str], numbers: Sequence[str], *, seed: int, **options: Any
) -> Any:
    """One-hot categories, numbers imputed by the median and scaled, then a linear model."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    def one_hot() -> OneHotEncoder:
        # Sparse: with few numbers beside them a year of rows is fitted in a tenth of the time.
        return OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=20)

    scaled = Pipeline([("fill", SimpleImputer(strategy="median")), ("scale", StandardScaler())])
    columns = ColumnTransformer(
        [
            *((f"category_{c}", one_hot(), [c]) for c in categories),
            ("numbers", scaled, list(numbers)),
        ],
        verbose_feature_names_out=False,
    )
    return Pipeline(
        [("columns", columns), ("model", LogisticRegression(random_state=seed, **options))]
    )

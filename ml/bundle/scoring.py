"""Scores from a bundle, with numpy and treelite only: no pandas, no scikit-learn."""

from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml.bundle.format import BundleInfo, CategoryBlock, Linear, ModelFile, NumberBlock
from ml.bundle.tree_arrays import TreeArrays
from ml.bundle.tree_scorer import tree_scorer
from ml.bundle.verify import read_bundle

Float64Array = NDArray[np.float64]
Texts = Sequence[str | None]
BlockEncoder = Callable[[Mapping[str, Texts], Float64Array], Float64Array]


class Bundle:
    """A model that can score. Only `load` makes one, so every bundle is verified."""

    def __init__(self, model: ModelFile, estimate: Callable[[Float64Array], Float64Array]) -> None:
        self._model, self._estimate = model, estimate
        self._encoders = [_block_encoder(block, model) for block in model.encoder]

    @classmethod
    def load(cls, folder: Path, manifest_sha256: str) -> "Bundle":
        """Read the bundle in `folder` whose manifest has that sha256.

        Raises:
            BundleRefused: a file is missing, is not listed, or differs from the manifest by one
                bit; or the files are right but this version cannot read them.
        """
        model, trees = read_bundle(Path(folder), manifest_sha256)
        return cls(model, _estimator(model, trees))

    @property
    def info(self) -> BundleInfo:
        """Where the model comes from."""
        return self._model.info

    @property
    def categories(self) -> tuple[str, ...]:
        """The text columns that `score` needs."""
        return self._model.categories

    @property
    def numbers(self) -> tuple[str, ...]:
        """The columns of the number matrix that `score` needs, in order."""
        return self._model.numbers

    @property
    def meanings(self) -> Mapping[str, str]:
        """What each column meant at training, as a digest; empty where that was not recorded."""
        return self._model.meanings

    def score(self, categories: Mapping[str, Texts], numbers: Float64Array) -> Float64Array:
        """Probability that the label is 1, `(n,)`, for `(n, len(self.numbers))` numbers.

        NaN is a missing number, None or an empty text a missing category; a category that the
        training set did not hold is scored as the pipeline scores it.

        Raises:
            ValueError: a column is missing or has another length.
        """
        if numbers.ndim != 2 or numbers.shape[1] != len(self.numbers):
            raise ValueError(f"numbers have shape {numbers.shape}, not (n, {len(self.numbers)})")
        for name in self.categories:
            if len(categories[name]) != len(numbers):
                raise ValueError(f"{name} has {len(categories[name])} values, not {len(numbers)}")
        if not len(numbers):
            return np.empty(0)
        return self._estimate(self._encode(categories, numbers))

    def known_rows(self, n: int = 8) -> tuple[dict[str, Texts], Float64Array]:
        """Rows of values that the model knows from its training, the first one without any value.

        They are the texts of its tables, and numbers around the ones that it scales by.
        """
        texts: dict[str, Texts] = dict.fromkeys(self.categories, [None] * n)
        numbers = np.zeros((n, len(self.numbers)))
        for block in self._model.encoder:
            if isinstance(block, CategoryBlock):
                known = block.values or ("",)
                texts[block.column] = [None, *(known[i % len(known)] for i in range(1, n))]
            else:
                places = [self.numbers.index(column) for column in block.columns]
                middle = np.array(block.shift or block.fill or (0.0,) * block.width)
                spread = np.array(block.scale or (1.0,) * block.width)
                numbers[:, places] = middle + np.linspace(-2, 2, n)[:, None] * spread
        numbers[0] = np.nan
        return texts, numbers

    def _encode(self, categories: Mapping[str, Texts], numbers: Float64Array) -> Float64Array:
        parts = [encoder(categories, numbers) for encoder in self._encoders]
        return np.ascontiguousarray(np.hstack(parts))


def _block_encoder(block: CategoryBlock | NumberBlock, model: ModelFile) -> BlockEncoder:
    """A function from all columns of the model to the floats of the block."""
    if isinstance(block, CategoryBlock):
        column, encode_texts = block.column, _text_encoder(block)
        return lambda categories, _: encode_texts(categories[column])
    places = np.array([model.numbers.index(c) for c in block.columns], dtype=np.intp)
    encode_numbers = _number_encoder(block)
    return lambda _, numbers: encode_numbers(numbers[:, places])


def _text_encoder(block: CategoryBlock) -> Callable[[Texts], Float64Array]:
    """`(n,)` texts -> `(n, width)`. A missing text is the empty text."""
    unknown = len(block.values)  # the last row of the table
    table = np.array([*block.rows, block.otherwise], dtype=np.float64).reshape(-1, block.width)
    index: dict[str | None, int] = {value: row for row, value in enumerate(block.values)}
    index[None] = index.get("", unknown)

    def encode(texts: Texts) -> Float64Array:
        rows = np.array(list(map(index.get, texts, repeat(unknown))), dtype=np.intp)
        encoded: Float64Array = table[rows]
        return encoded

    return encode


def _number_encoder(block: NumberBlock) -> Callable[[Float64Array], Float64Array]:
    """`(n, width)` -> the same shape; the argument stays as it is."""
    fill, shift, scale = (
        None if numbers is None else np.array(numbers)
        for numbers in (block.fill, block.shift, block.scale)
    )

    def encode(numbers: Float64Array) -> Float64Array:
        encoded = np.array(numbers, dtype=np.float64)
        if fill is not None:
            encoded = np.where(np.isnan(encoded), fill, encoded)
        if shift is not None:
            encoded -= shift
        if scale is not None:
            encoded /= scale
        return encoded

    return encode


def _estimator(
    model: ModelFile, trees: TreeArrays | None
) -> Callable[[Float64Array], Float64Array]:
    estimator = model.estimator
    if isinstance(estimator, Linear):
        weights, intercept = np.array(estimator.weights), estimator.intercept
        return lambda encoded: _sigmoid(encoded @ weights + intercept)
    assert trees is not None, "a bundle that was read has the trees of its model"
    return tree_scorer(trees, base_score=estimator.base_score, columns=model.width)


def _sigmoid(z: Float64Array) -> Float64Array:
    """1 / (1 + e^-z) without overflow on either side."""
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, e) / (1.0 + e)

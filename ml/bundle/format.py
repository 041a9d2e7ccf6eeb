"""A serving bundle: a model as plain data, no code. Written at training, read by serving.

A folder of three files at most:

    manifest.json   every other file with its size and sha256
    model.json      what the model is (`BundleInfo`), its columns, the encoder's tables, and the
                    weights of a linear model
    trees.bin       the trees of a boosted model, in treelite's format

The sha256 of `manifest.json` stands as a tag at the registered version: whoever holds that tag can
tell that every byte is what was registered. Version number and run are not inside, because the
registry gives them out after the bundle was written.

Reading and scoring need numpy and treelite only.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from ml.errors import BundleRefused

# Data, not code: see docs/explanation/decisions/0004-models-as-data.md
FORMAT = 1
MANIFEST = "manifest.json"
MODEL = "model.json"
TREES = "trees.bin"

Float64Array = NDArray[np.float64]
Texts = Sequence[str | None]


class BundleInfo(Struct, frozen=True, kw_only=True):
    """Where the model comes from."""

    model: str  # the name of its project and of the registered model
    candidate: str
    service: str  # the feature service that its columns are from
    day: str  # the run day, ISO
    trained_until_us: int  # decisions before this taught it
    snapshot_sha256: str  # of the training set
    threshold: float  # at and above it a score is called late, where a yes or no is wanted


class CategoryBlock(
    Struct, frozen=True, kw_only=True, tag="category", forbid_unknown_fields=True, dict=True
):
    """One text column -> `width` floats: the row of its value, or `otherwise`.

    JSON has no NaN: null stands for it.
    """

    column: str
    values: tuple[str, ...]
    rows: tuple[tuple[float | None, ...], ...]
    otherwise: tuple[float | None, ...]

    @property
    def width(self) -> int:
        return len(self.otherwise)

    @cached_property
    def table(self) -> Float64Array:
        """The rows, and `otherwise` as the last one."""
        return np.array([*self.rows, self.otherwise], dtype=np.float64).reshape(-1, self.width)

    @cached_property
    def index(self) -> dict[str | None, int]:
        """Value -> row. A missing text is the empty text."""
        rows: dict[str | None, int] = {value: row for row, value in enumerate(self.values)}
        rows[None] = rows.get("", len(self.values))
        return rows

    def encode(self, texts: Texts) -> Float64Array:
        """`(n,)` texts -> `(n, width)`."""
        rows = list(map(self.index.get, texts, repeat(len(self.values))))
        encoded: Float64Array = self.table[np.array(rows, dtype=np.intp)]
        return encoded


class NumberBlock(Struct, frozen=True, kw_only=True, tag="numbers", forbid_unknown_fields=True):
    """Number columns -> as many floats: NaN becomes `fill`, then minus `shift`, over `scale`."""

    columns: tuple[str, ...]
    fill: tuple[float, ...] | None = None
    shift: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None

    @property
    def width(self) -> int:
        return len(self.columns)

    def encode(self, numbers: Float64Array) -> Float64Array:
        """`(n, width)` -> the same shape; the argument stays as it is."""
        encoded = np.array(numbers, dtype=np.float64)
        if self.fill is not None:
            encoded = np.where(np.isnan(encoded), np.array(self.fill), encoded)
        if self.shift is not None:
            encoded -= np.array(self.shift)
        if self.scale is not None:
            encoded /= np.array(self.scale)
        return encoded


class Linear(Struct, frozen=True, kw_only=True, tag="linear", forbid_unknown_fields=True):
    """The weights of a logistic regression, one for each encoded column."""

    weights: tuple[float, ...]
    intercept: float


class Trees(Struct, frozen=True, kw_only=True, tag="trees", forbid_unknown_fields=True):
    """Boosted trees; they stand in `trees.bin`."""


class ModelFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of `model.json`."""

    info: BundleInfo
    categories: tuple[str, ...]  # the columns that `score` is given, in this order
    numbers: tuple[str, ...]
    encoder: tuple[CategoryBlock | NumberBlock, ...]  # side by side: what the estimator is given
    estimator: Linear | Trees


class FileEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the manifest says of a file."""

    size: int
    sha256: str


class Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of `manifest.json`."""

    format: int
    files: dict[str, FileEntry]


class Bundle:
    """A model that can score. Made by `load` only, so that every one has been checked."""

    def __init__(self, model: ModelFile, estimate: Callable[[Float64Array], Float64Array]) -> None:
        self._model, self._estimate = model, estimate
        places = {name: i for i, name in enumerate(model.numbers)}
        self._number_places = {
            block.columns: np.array([places[c] for c in block.columns], dtype=np.intp)
            for block in model.encoder
            if isinstance(block, NumberBlock)
        }

    @classmethod
    def load(cls, folder: Path, manifest_sha256: str) -> "Bundle":
        """Read the bundle in `folder` whose manifest has that sha256.

        Raises:
            BundleRefused: a file is missing, is not listed, or differs from the manifest by one
                bit; or the files are right but this version cannot read them.
        """
        contents = _checked_files(Path(folder), manifest_sha256)
        model = _decode(contents.get(MODEL, b""), ModelFile, MODEL)
        _check_columns(model)
        return cls(model, _estimator(model, contents))

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

    def _encode(self, categories: Mapping[str, Texts], numbers: Float64Array) -> Float64Array:
        parts = [
            block.encode(categories[block.column])
            if isinstance(block, CategoryBlock)
            else block.encode(numbers[:, self._number_places[block.columns]])
            for block in self._model.encoder
        ]
        return np.ascontiguousarray(np.hstack(parts))


def write_bundle(folder: Path, model: ModelFile, *, trees: bytes | None = None) -> str:
    """Write a bundle into the empty or new `folder`; returns the sha256 of its manifest.

    The same content gives the same bytes, and so the same sha256.

    Raises:
        BundleRefused: columns or widths do not fit each other.
    """
    _check_columns(model)
    contents = {MODEL: msgspec.json.format(msgspec.json.encode(model, order="sorted"), indent=1)}
    if trees is not None:
        contents[TREES] = trees
    entries = {
        name: FileEntry(size=len(content), sha256=_sha256(content))
        for name, content in contents.items()
    }
    manifest = msgspec.json.encode(Manifest(format=FORMAT, files=entries), order="sorted")
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (*contents.items(), (MANIFEST, manifest)):
        (folder / name).write_bytes(content)
    return _sha256(manifest)


def _checked_files(folder: Path, manifest_sha256: str) -> dict[str, bytes]:
    """Every listed file's bytes, each compared with its size and sha256."""
    raw = _read(folder, MANIFEST)
    if _sha256(raw) != manifest_sha256:
        raise BundleRefused(
            f"{folder / MANIFEST} has sha256 {_sha256(raw)[:12]}, registered is "
            f"{manifest_sha256[:12]}",
            hint="the files were changed after registration, or belong to another version",
        )
    manifest = _decode(raw, Manifest, MANIFEST)
    if manifest.format != FORMAT:
        raise BundleRefused(f"bundle format {manifest.format}; this version reads {FORMAT}")
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
    if stray := sorted(present - {MANIFEST} - set(manifest.files)):
        raise BundleRefused(f"{folder} holds files that its manifest does not list: {stray}")
    return {name: _checked(folder, name, entry) for name, entry in manifest.files.items()}


def _checked(folder: Path, name: str, entry: FileEntry) -> bytes:
    if name not in (MODEL, TREES):
        raise BundleRefused(f"a bundle has no file {name!r}")
    content = _read(folder, name)
    if (len(content), _sha256(content)) != (entry.size, entry.sha256):
        raise BundleRefused(
            f"{folder / name} is not the file that was registered: {len(content)} bytes, sha256 "
            f"{_sha256(content)[:12]}; the manifest says {entry.size} and {entry.sha256[:12]}"
        )
    return content


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise BundleRefused(f"{folder} has no readable {name}: {error.strerror}") from error


def _decode(raw: bytes, kind: type[Any], name: str) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.MsgspecError as error:
        raise BundleRefused(f"{name} cannot be read: {error}") from error


def _check_columns(model: ModelFile) -> None:
    for block in model.encoder:
        own = (block.column,) if isinstance(block, CategoryBlock) else block.columns
        given = model.categories if isinstance(block, CategoryBlock) else model.numbers
        if unknown := sorted(set(own) - set(given)):
            raise BundleRefused(f"the encoder reads columns that the model is not given: {unknown}")
        if not _fits(block):
            raise BundleRefused(f"the encoder's table of {own} has rows of unlike lengths")
    width = sum(block.width for block in model.encoder)
    estimator = model.estimator
    if isinstance(estimator, Linear) and len(estimator.weights) != width:
        raise BundleRefused(f"{len(estimator.weights)} weights for {width} encoded columns")


def _fits(block: CategoryBlock | NumberBlock) -> bool:
    if isinstance(block, CategoryBlock):
        return len(block.rows) == len(block.values) and {len(r) for r in block.rows} <= {
            block.width
        }
    lists = (block.fill, block.shift, block.scale)
    return all(numbers is None or len(numbers) == block.width for numbers in lists)


def _estimator(
    model: ModelFile, contents: Mapping[str, bytes]
) -> Callable[[Float64Array], Float64Array]:
    if isinstance(model.estimator, Linear):
        weights, intercept = np.array(model.estimator.weights), model.estimator.intercept
        return lambda encoded: _sigmoid(encoded @ weights + intercept)
    if TREES not in contents:
        raise BundleRefused(f"the model has trees, but the bundle has no {TREES}")
    return _tree_estimator(contents[TREES], width=sum(block.width for block in model.encoder))


def _tree_estimator(blob: bytes, *, width: int) -> Callable[[Float64Array], Float64Array]:
    import treelite
    from treelite import gtil

    try:
        trees = treelite.Model.deserialize_bytes(blob)
    except treelite.TreeliteError as error:
        raise BundleRefused(f"{TREES} cannot be read: {error}") from error
    if trees.num_feature != width:
        raise BundleRefused(f"the trees want {trees.num_feature} columns, the encoder has {width}")

    def estimate(encoded: Float64Array) -> Float64Array:
        scores = gtil.predict(trees, encoded, nthread=1)
        return np.asarray(scores, dtype=np.float64).reshape(len(encoded), -1)[:, -1]

    return estimate


def _sigmoid(z: Float64Array) -> Float64Array:
    """1 / (1 + e^-z) without overflow on either side."""
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, e) / (1.0 + e)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

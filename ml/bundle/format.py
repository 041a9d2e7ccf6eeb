"""A serving bundle: a model as plain data, no code. Written at training, read by serving.

A folder of three files at most:

    manifest.json   every other file with its size and sha256
    model.json      what the model is (`BundleInfo`), its columns and what they meant, the
                    encoder's tables, and the weights of a linear model
    trees.bin       the trees of a boosted model, as plain arrays (`tree_arrays`)

The sha256 of `manifest.json` is a tag of the registered version: a reader with that tag can tell
that every byte is what was registered. Version number and run are not inside, because the registry
gives them out after the bundle was written.

This module holds the records and the writing; `verify` reads a bundle and checks it, `scoring`
computes scores from it.
"""

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from ml.errors import BundleRefused

# Why data and no code: see docs/explanation/decisions/0004-models-as-data.md
FORMAT = 3
MANIFEST = "manifest.json"
MODEL = "model.json"
TREES = "trees.bin"
# Far above any model that is sensible, and low enough that a reader of it stays small.
MAX_BYTES = {MANIFEST: 1 << 16, MODEL: 1 << 26, TREES: 1 << 28}


class BundleInfo(Struct, frozen=True, kw_only=True):
    """Where the model comes from."""

    model: str  # the name of its project and of the registered model
    candidate: str
    service: str  # the feature service that its columns are from
    day: str  # the run day, ISO
    trained_until_us: int  # it was trained on decisions before this
    snapshot_sha256: str  # of the training set
    threshold: float  # at and above it a score is called positive, where a yes or no is wanted


class CategoryBlock(Struct, frozen=True, kw_only=True, tag="category", forbid_unknown_fields=True):
    """One text column -> `width` floats: the row of its value, or `otherwise`.

    JSON has no NaN: null stands for it.
    """

    column: str
    values: tuple[str, ...]
    rows: tuple[tuple[float | None, ...], ...]
    otherwise: tuple[float | None, ...]

    @property
    def reads(self) -> tuple[str, ...]:
        """Its column."""
        return (self.column,)

    @property
    def width(self) -> int:
        """How many floats a text becomes."""
        return len(self.otherwise)


class NumberBlock(Struct, frozen=True, kw_only=True, tag="numbers", forbid_unknown_fields=True):
    """Number columns -> as many floats: NaN becomes `fill`, then minus `shift`, over `scale`."""

    columns: tuple[str, ...]
    fill: tuple[float, ...] | None = None
    shift: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """Its columns."""
        return self.columns

    @property
    def width(self) -> int:
        """How many columns it takes and gives."""
        return len(self.columns)


class Linear(Struct, frozen=True, kw_only=True, tag="linear", forbid_unknown_fields=True):
    """The weights of a logistic regression, one for each encoded column."""

    weights: tuple[float, ...]
    intercept: float


class Trees(Struct, frozen=True, kw_only=True, tag="trees", forbid_unknown_fields=True):
    """Boosted trees; `trees.bin` holds arrays of these lengths, see `tree_arrays`."""

    trees: int
    nodes: int
    categories: int
    base_score: float  # what every row has before any tree adds to it


class ModelFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of `model.json`.

    `categories`, `numbers`: the columns that `score` is given, in this order. `meanings`: for each
    of them a digest of what it meant when the model was trained; none in a bundle of before format
    3, which did not record them.
    """

    info: BundleInfo
    categories: tuple[str, ...]
    numbers: tuple[str, ...]
    meanings: dict[str, str] = {}
    encoder: tuple[CategoryBlock | NumberBlock, ...]  # side by side: what the estimator is given
    estimator: Linear | Trees

    @property
    def width(self) -> int:
        """How many columns the estimator is given."""
        return sum(block.width for block in self.encoder)


class FileEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of the bundle, as the manifest lists it."""

    size: int
    sha256: str


class Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of `manifest.json`."""

    format: int
    files: dict[str, FileEntry]


def write_bundle(folder: Path, model: ModelFile, *, trees: bytes | None = None) -> str:
    """Write a bundle into the empty or new `folder`; returns the sha256 of its manifest.

    The same content gives the same bytes, and so the same sha256.

    Raises:
        BundleRefused: columns or widths do not fit each other.
    """
    check_model(model)
    contents = {MODEL: msgspec.json.format(msgspec.json.encode(model, order="sorted"), indent=1)}
    if trees is not None:
        contents[TREES] = trees
    entries = {
        name: FileEntry(size=len(content), sha256=sha256_of(content))
        for name, content in contents.items()
    }
    manifest = msgspec.json.encode(Manifest(format=FORMAT, files=entries), order="sorted")
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (*contents.items(), (MANIFEST, manifest)):
        (folder / name).write_bytes(content)
    return sha256_of(manifest)


def check_model(model: ModelFile) -> None:
    """Check that columns, tables and weights fit each other.

    Raises:
        BundleRefused: they do not.
    """
    for block in model.encoder:
        own = block.reads
        given = model.categories if isinstance(block, CategoryBlock) else model.numbers
        if unknown := sorted(set(own) - set(given)):
            raise BundleRefused(
                f"the encoder reads columns that the model does not have: {unknown}"
            )
        if not _fits(block):
            raise BundleRefused(f"the encoder's table of {own} has rows of different lengths")
    if model.meanings and model.meanings.keys() != {*model.categories, *model.numbers}:
        raise BundleRefused("the model records the meanings of other columns than it has")
    estimator = model.estimator
    if isinstance(estimator, Linear) and len(estimator.weights) != model.width:
        raise BundleRefused(f"{len(estimator.weights)} weights for {model.width} encoded columns")
    if not all(map(math.isfinite, _numbers(model))):
        raise BundleRefused("the model holds a number that is not finite")


def only_read(model: ModelFile) -> ModelFile:
    """The model without the columns that its encoder does not read."""
    read = {column for block in model.encoder for column in block.reads}
    return msgspec.structs.replace(
        model,
        categories=tuple(c for c in model.categories if c in read),
        numbers=tuple(c for c in model.numbers if c in read),
        meanings={c: meaning for c, meaning in model.meanings.items() if c in read},
    )


def sha256_of(content: bytes) -> str:
    """In hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def _numbers(model: ModelFile) -> Iterator[float]:
    """Every number that a score is computed from, but for the tables, where NaN has a meaning."""
    estimator = model.estimator
    if isinstance(estimator, Linear):
        yield from (*estimator.weights, estimator.intercept)
    else:
        yield estimator.base_score
    for block in model.encoder:
        if isinstance(block, NumberBlock):
            yield from (*(block.fill or ()), *(block.shift or ()), *(block.scale or ()))


def _fits(block: CategoryBlock | NumberBlock) -> bool:
    if isinstance(block, CategoryBlock):
        return len(block.rows) == len(block.values) and {len(r) for r in block.rows} <= {
            block.width
        }
    lists = (block.fill, block.shift, block.scale)
    return all(numbers is None or len(numbers) == block.width for numbers in lists)

"""A bundle scores like its pipeline and is refused when one bit of it was changed."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder

from ml.bundle.format import (
    MANIFEST,
    MODEL,
    TREES,
    BundleInfo,
    CategoryBlock,
    Linear,
    ModelFile,
    NumberBlock,
    write_bundle,
)
from ml.bundle.scoring import Bundle
from ml.errors import BundleRefused, UnsupportedPipeline
from ml.training.bundle_export import export_pipeline
from ml.training.candidates import boosted_trees, logistic_regression
from tests.support.examples import examples

CATEGORIES, NUMBERS = ("carrier", "dest"), ("wind", "delay", "unused", "age")
USED = ("wind", "delay", "age")
INFO = BundleInfo(
    model="m",
    candidate="c",
    service="s",
    day="2013-03-01",
    trained_until_us=1,
    snapshot_sha256="00",
    threshold=0.5,
)
KNOWN = {"carrier": ["AA", "B6", "", "UA"], "dest": [f"D{i}" for i in range(60)]}


@dataclass
class Fitted:
    """A pipeline and its bundle in a folder."""

    pipeline: Any
    folder: Path
    sha256: str

    @cached_property
    def bundle(self) -> Bundle:
        return Bundle.load(self.folder, self.sha256)


def training_frame(n: int = 3_000) -> tuple[pd.DataFrame, Any]:
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {c: rng.choice(v, n).astype(object) for c, v in KNOWN.items()}
    for name in USED:
        columns[name] = np.where(rng.random(n) < 0.1, np.nan, rng.normal(0, 2, n))
    risk = np.nan_to_num(columns["delay"]) + (columns["carrier"] == "AA") + rng.normal(0, 1, n)
    return pd.DataFrame(columns), (risk > 0.5).astype(int)


def fit(build: Callable[..., Any], folder: Path, **options: Any) -> Fitted:
    frame, labels = training_frame()
    pipeline = build(CATEGORIES, USED, seed=0, **options).fit(frame, labels)
    model, trees = export_pipeline(pipeline, info=INFO, categories=CATEGORIES, numbers=NUMBERS)
    return Fitted(pipeline, folder, write_bundle(folder, model, trees=trees))


@pytest.fixture(scope="module", params=["trees", "linear"])
def fitted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    folder = tmp_path_factory.mktemp(request.param) / "bundle"
    if request.param == "trees":
        return fit(boosted_trees, folder, max_iter=40)
    return fit(logistic_regression, folder, solver="newton-cholesky")


TEXTS = st.one_of(st.sampled_from(KNOWN["carrier"] + KNOWN["dest"]), st.text(max_size=5))
FLOATS = st.one_of(st.just(float("nan")), st.floats(-1e6, 1e6))
ROWS = st.lists(st.tuples(TEXTS, TEXTS, FLOATS, FLOATS, FLOATS), min_size=1, max_size=20)


@examples(25)
@given(rows=ROWS)
def test_a_bundle_scores_any_row_as_its_pipeline_does(fitted: Fitted, rows: list[Any]) -> None:
    carriers, dests, *numbers = (list(column) for column in zip(*rows, strict=True))
    matrix = np.array(numbers, dtype=float).T
    frame = pd.DataFrame({"carrier": carriers, "dest": dests}, dtype=object)
    for place, name in enumerate(USED):
        frame[name] = matrix[:, place]
    expected = fitted.pipeline.predict_proba(frame)[:, 1]
    scores = fitted.bundle.score({"carrier": carriers, "dest": dests}, matrix)
    assert np.abs(scores - expected).max() <= 1e-9


def test_a_missing_text_scores_as_the_empty_text(fitted: Fitted) -> None:
    numbers = np.zeros((2, 3))
    missing, empty = fitted.bundle.score({"carrier": [None, ""], "dest": ["D1", "D1"]}, numbers)
    assert missing == empty


def test_no_rows_give_no_scores(fitted: Fitted) -> None:
    assert fitted.bundle.score({"carrier": [], "dest": []}, np.empty((0, 3))).shape == (0,)


def test_scoring_does_not_change_the_numbers_of_the_caller(fitted: Fitted) -> None:
    numbers = np.full((3, 3), np.nan)
    fitted.bundle.score({"carrier": ["AA"] * 3, "dest": ["D1"] * 3}, numbers)
    assert np.isnan(numbers).all()


@pytest.mark.parametrize(
    ("categories", "shape"),
    [
        ({"carrier": ["AA"], "dest": ["D1"]}, (1, 4)),
        ({"carrier": ["AA"], "dest": ["D1", "D2"]}, (1, 3)),
    ],
)
def test_columns_of_a_wrong_shape_are_refused(
    fitted: Fitted, categories: dict[str, list[str]], shape: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match=r"not|shape"):
        fitted.bundle.score(categories, np.zeros(shape))


def test_a_bundle_records_its_origin(fitted: Fitted) -> None:
    bundle = fitted.bundle
    assert (bundle.info, bundle.categories, bundle.numbers) == (INFO, CATEGORIES, USED)


def test_the_same_model_gives_the_same_bytes(fitted: Fitted, tmp_path: Path) -> None:
    model, trees = export_pipeline(
        fitted.pipeline, info=INFO, categories=CATEGORIES, numbers=NUMBERS
    )
    assert write_bundle(tmp_path, model, trees=trees) == fitted.sha256


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "a bit of the model": lambda f: flip_a_bit(f / MODEL),
    "a bit of the trees": lambda f: flip_a_bit(f / TREES),
    "a bit of the manifest": lambda f: flip_a_bit(f / MANIFEST),
    "the model is gone": lambda f: (f / MODEL).unlink(),
    "the trees are gone": lambda f: (f / TREES).unlink(),
    "the manifest is gone": lambda f: (f / MANIFEST).unlink(),
    "the model is empty": lambda f: (f / MODEL).write_bytes(b""),
    "a file too many": lambda f: (f / "run_me.py").write_text("print('hello')"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bundle_that_differs_from_the_registered_one_is_refused(
    damage: str, tmp_path: Path
) -> None:
    fitted = fit(boosted_trees, tmp_path / "bundle", max_iter=3)
    DAMAGES[damage](fitted.folder)
    with pytest.raises(BundleRefused):
        Bundle.load(fitted.folder, fitted.sha256)


def test_a_bundle_of_another_version_is_refused(tmp_path: Path) -> None:
    fitted = fit(logistic_regression, tmp_path / "bundle", solver="newton-cholesky")
    other_sha256 = fitted.sha256.replace(fitted.sha256[0], "0" if fitted.sha256[0] != "0" else "1")
    with pytest.raises(BundleRefused, match="registered is"):
        Bundle.load(fitted.folder, other_sha256)


@pytest.mark.parametrize(
    ("manifest", "named"),
    [
        ({"format": 4, "files": {}}, "format 4; this version reads 1 to 3"),
        ({"format": 1, "files": {}}, "model.json cannot be read"),
        ({"format": 1, "files": {"../evil": {"size": 0, "sha256": ""}}}, "no file"),
        ({"format": 1, "files": {}, "run": "me"}, "cannot be read"),
    ],
)
def test_an_unsupported_manifest_is_refused(
    tmp_path: Path, manifest: dict[str, Any], named: str
) -> None:
    import hashlib

    raw = json.dumps(manifest).encode()
    (tmp_path / MANIFEST).write_bytes(raw)
    with pytest.raises(BundleRefused, match=named):
        Bundle.load(tmp_path, hashlib.sha256(raw).hexdigest())


def model_file(**changes: Any) -> ModelFile:
    fields: dict[str, Any] = {
        "info": INFO,
        "categories": ("carrier",),
        "numbers": ("wind",),
        "encoder": (
            CategoryBlock(column="carrier", values=("AA",), rows=((1.0,),), otherwise=(0.0,)),
            NumberBlock(columns=("wind",), fill=(0.0,), shift=(0.0,), scale=(1.0,)),
        ),
        "estimator": Linear(weights=(1.0, 2.0), intercept=0.0),
    }
    return ModelFile(**{**fields, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"estimator": Linear(weights=(1.0,), intercept=0.0)},
        {"numbers": ("rain",)},
        {"categories": ("dest",)},
        {"encoder": (CategoryBlock(column="carrier", values=("AA",), rows=(), otherwise=(0.0,)),)},
        {"encoder": (NumberBlock(columns=("wind",), fill=(0.0, 1.0)),)},
        {"meanings": {"wind": "a" * 16}},
        {"meanings": dict.fromkeys(("carrier", "wind", "rain"), "a" * 16)},
    ],
)
def test_inconsistent_parts_are_never_written(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BundleRefused):
        write_bundle(tmp_path, model_file(**changes))
    assert not list(tmp_path.iterdir())


def test_columns_that_a_model_of_before_lists_and_does_not_read_are_left_out(
    tmp_path: Path,
) -> None:
    listed = model_file(categories=("carrier", "dest"), numbers=("rain", "wind"))
    bundle = Bundle.load(tmp_path, write_bundle(tmp_path, listed))
    assert (bundle.categories, bundle.numbers) == (("carrier",), ("wind",))
    assert bundle.score({"carrier": ["AA"]}, np.array([[1.0]])) > 0.9


def test_a_large_linear_sum_saturates_without_a_warning(tmp_path: Path) -> None:
    sha256 = write_bundle(tmp_path, model_file(estimator=Linear(weights=(0, 1e4), intercept=0)))
    low, high = Bundle.load(tmp_path, sha256).score(
        {"carrier": ["AA", "AA"]}, np.array([[-1.0], [1.0]])
    )
    assert (low, high) == (0.0, 1.0)


def test_an_encoder_of_several_columns_is_refused() -> None:
    frame, labels = training_frame(300)
    parts = [("c", OneHotEncoder(), list(CATEGORIES)), ("n", "passthrough", list(USED))]
    model = LogisticRegression()
    pipeline = Pipeline([("columns", ColumnTransformer(parts)), ("model", model)])
    pipeline.fit(frame.fillna(0), labels)
    with pytest.raises(UnsupportedPipeline, match="several columns"):
        export_pipeline(pipeline, info=INFO, categories=CATEGORIES, numbers=NUMBERS)


@pytest.mark.parametrize(
    ("part", "named"), [("model", "RandomForest"), ("numbers", "MinMaxScaler")]
)
def test_an_unknown_estimator_or_scaler_is_refused(part: str, named: str) -> None:
    frame, labels = training_frame(300)
    pipeline = logistic_regression(CATEGORIES, USED, seed=0)
    if part == "model":
        pipeline.steps[1] = ("model", RandomForestClassifier(n_estimators=2))
    else:
        parts = pipeline.named_steps["columns"].transformers
        parts[-1] = ("numbers", MinMaxScaler(), list(USED))
    pipeline.fit(frame.fillna(0), labels)
    with pytest.raises(UnsupportedPipeline, match=named):
        export_pipeline(pipeline, info=INFO, categories=CATEGORIES, numbers=NUMBERS)

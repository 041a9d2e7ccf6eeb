"""Bundles of a tiny model, for tests that need a model but no training."""

import hashlib
from pathlib import Path

from features.definitions import FeatureService
from ml.bundle.format import (
    BundleInfo,
    CategoryBlock,
    Linear,
    ModelFile,
    NumberBlock,
    write_bundle,
)
from ml.compatibility import with_meanings


def a_bundle(folder: Path, service: FeatureService, *, intercept: float = -1.0) -> str:
    """Write `a_model_file`; returns the sha256 of its manifest."""
    return write_bundle(folder, a_model_file(service, intercept=intercept))


def a_model_file(service: FeatureService, *, intercept: float = -1.0) -> ModelFile:
    """A linear model of all columns; its score rises with each number that is not null.

    `intercept` distinguishes models.
    """
    columns = service.numbers
    encoder: tuple[CategoryBlock | NumberBlock, ...] = (
        *(
            CategoryBlock(column=c, values=("AA", "JFK"), rows=((0.5,), (0.25,)), otherwise=(0.0,))
            for c in service.categories
        ),
        NumberBlock(columns=columns, fill=(0.0,) * len(columns), scale=(1e4,) * len(columns)),
    )
    width = sum(block.width for block in encoder)
    model = ModelFile(
        info=BundleInfo(
            model=service.name,
            candidate="linear",
            service=service.name,
            day="2013-03-01",
            trained_until_us=1_362_096_000_000_000,
            snapshot_sha256=hashlib.sha256(b"").hexdigest(),
            threshold=0.5,
        ),
        categories=service.categories,
        numbers=columns,
        encoder=encoder,
        estimator=Linear(weights=(0.1,) * width, intercept=intercept),
    )
    return with_meanings(model, service)

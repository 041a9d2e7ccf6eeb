"""How good predictions were, and how certain a difference between two models is."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from features.definitions import Float64Array, Int64Array

CERTAIN = 1e-7  # a score of exactly 0 or 1 would cost infinity
CALIBRATION_BINS = 15
RESAMPLES = 2_000
CONFIDENCE = 0.90


class Interval(Struct, frozen=True, kw_only=True):
    """A difference of mean losses and the ends of its day-block interval."""

    value: float
    lower: float
    upper: float

    @property
    def has_bounds(self) -> bool:
        """False where one day alone was seen."""
        return math.isfinite(self.lower)


class SliceMetrics(Struct, frozen=True, kw_only=True):
    """One part of the decisions: `carrier=US`."""

    name: str
    rows: int
    log_loss: float
    change: float | None = None  # minus the champion's on the same rows


def log_losses(labels: Int64Array, scores: Float64Array) -> Float64Array:
    """Minus the log of the probability given to the actual label, for each row."""
    p = np.clip(scores, CERTAIN, 1 - CERTAIN)
    return -np.where(labels == 1, np.log(p), np.log1p(-p))


def brier(labels: Int64Array, scores: Float64Array) -> float:
    """Mean squared distance of score and label."""
    return float(np.mean((scores - labels) ** 2))


def bias(labels: Int64Array, scores: Float64Array) -> float:
    """Mean score minus share of positives: above zero, scores are too high."""
    return float(scores.mean() - labels.mean())


def calibration(
    labels: Int64Array, scores: Float64Array, *, bins: int = CALIBRATION_BINS
) -> list[tuple[float, float, int]]:
    """(mean score, share of positives, rows) of bins of equal row counts, lowest scores first."""
    order = np.argsort(scores, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return [(float(scores[p].mean()), float(labels[p].mean()), len(p)) for p in parts]


def calibration_error(labels: Int64Array, scores: Float64Array) -> float:
    """ECE: mean distance of score and share over the bins, weighted by rows."""
    table = calibration(labels, scores)
    return sum(abs(score - share) * rows for score, share, rows in table) / len(labels)


# Why it resamples whole days, not rows: see docs/explanation/decisions/0005-day-block-gates.md
def day_block_interval(
    differences: Float64Array,
    days: NDArray[np.int64],
    *,
    seed: int,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
) -> Interval:
    """The mean of per-row differences, and how much it depends on which days there were.

    A bootstrap over whole days: the rows of a day are not independent, flights of a day share their
    weather. An interval over single rows would be too narrow, and noise would look like progress.
    `differences` and `days` have shape `(n,)`. Rows of one day alone say nothing about other days:
    their interval has no bounds.
    """
    _, block = np.unique(days, return_inverse=True)
    sums, rows = np.bincount(block, weights=differences), np.bincount(block)
    if len(rows) == 1:
        return Interval(value=float(differences.mean()), lower=-np.inf, upper=np.inf)
    draws = np.random.default_rng(seed).integers(0, len(rows), size=(resamples, len(rows)))
    means = sums[draws].sum(axis=1) / rows[draws].sum(axis=1)
    tail = (1 - confidence) / 2
    lower, upper = np.quantile(means, [tail, 1 - tail])
    return Interval(value=float(differences.mean()), lower=float(lower), upper=float(upper))


def slices(
    categories: Mapping[str, Sequence[str]],
    losses: Float64Array,
    champion_losses: Float64Array | None,
    *,
    min_rows: int,
) -> list[SliceMetrics]:
    """Loss by each value of each category with at least `min_rows` rows."""
    return [
        SliceMetrics(
            name=name,
            rows=int(rows.sum()),
            log_loss=float(losses[rows].mean()),
            change=None
            if champion_losses is None
            else float((losses - champion_losses)[rows].mean()),
        )
        for name, rows in _slice_masks(categories)
        if rows.sum() >= min_rows
    ]


def _slice_masks(
    categories: Mapping[str, Sequence[str]],
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    for column, texts in categories.items():
        values, codes = np.unique(np.asarray(texts, dtype=str), return_inverse=True)
        for code, value in enumerate(values):
            yield f"{column}={value}", codes == code

"""Metrics of predictions, against reference implementations and simulated noise."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from features.definitions import Float64Array, Int64Array
from ml.evaluation import metrics as quality

RNG = np.random.default_rng(7)


def predictions(n: int = 2_000) -> tuple[Int64Array, Float64Array]:
    """Labels, and scores that are their true probabilities."""
    scores = RNG.uniform(0.02, 0.98, n)
    return (RNG.random(n) < scores).astype(np.int64), scores


def test_loss_and_brier_agree_with_scikit_learn() -> None:
    labels, scores = predictions()
    assert quality.log_losses(labels, scores).mean() == pytest.approx(log_loss(labels, scores))
    assert quality.brier(labels, scores) == pytest.approx(brier_score_loss(labels, scores))


def test_a_certain_error_has_a_large_but_finite_loss() -> None:
    losses = quality.log_losses(np.array([1, 0]), np.array([0.0, 1.0]))
    assert losses == pytest.approx([16.118, 16.118], abs=0.01)


def test_true_probabilities_are_calibrated_and_distorted_ones_are_not() -> None:
    labels, scores = predictions(20_000)
    assert quality.calibration_error(labels, scores) < 0.02
    assert quality.calibration_error(labels, scores**2) > 0.1
    assert quality.bias(labels, scores) == pytest.approx(0, abs=0.02)
    assert quality.bias(labels, scores + 0.1) == pytest.approx(0.1, abs=0.02)


def test_an_interval_over_days_is_wider_than_one_over_rows_when_days_are_correlated() -> None:
    days = np.repeat(np.arange(7), 800)
    shared = np.random.default_rng(1).normal(0, 0.02, 7)
    differences = shared[days] + np.random.default_rng(2).normal(0, 0.1, len(days))
    by_day = quality.day_block_interval(differences, days, seed=0)
    by_row = quality.day_block_interval(differences, np.arange(len(days)), seed=0, resamples=300)
    assert by_day.upper - by_day.lower > 2 * (by_row.upper - by_row.lower)


def test_an_interval_covers_the_truth_about_as_often_as_its_level() -> None:
    rng, covered = np.random.default_rng(3), 0
    days = np.repeat(np.arange(30), 20)
    for _ in range(200):
        differences = rng.normal(0, 0.05, 30)[days] + rng.normal(0, 0.1, len(days))
        interval = quality.day_block_interval(differences, days, seed=0, resamples=400)
        covered += interval.lower <= 0 <= interval.upper
    assert 0.8 <= covered / 200 <= 0.97


def test_the_same_differences_give_the_same_interval() -> None:
    differences, days = RNG.normal(0, 1, 100), np.repeat(np.arange(10), 10)
    assert quality.day_block_interval(differences, days, seed=5) == quality.day_block_interval(
        differences, days, seed=5
    )


def test_slices_report_the_change_and_omit_small_ones() -> None:
    losses = np.array([1.0] * 300 + [2.0] * 300 + [9.0] * 10)
    champion = np.array([1.5] * 610)
    carriers = ["AA"] * 300 + ["UA"] * 300 + ["ZZ"] * 10
    parts = quality.slices({"carrier": carriers}, losses, champion, min_rows=300)
    assert [(s.name, s.rows, s.change) for s in parts] == [
        ("carrier=AA", 300, pytest.approx(-0.5)),
        ("carrier=UA", 300, pytest.approx(0.5)),
    ]


def test_without_a_champion_slices_have_no_change() -> None:
    (parts,) = quality.slices({"c": ["x"] * 5}, np.ones(5), None, min_rows=1)
    assert parts.change is None

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


def test_one_day_says_nothing_about_other_days() -> None:
    interval = quality.day_block_interval(np.array([0.1, 0.3]), np.array([4, 4]), seed=0)
    assert interval.value == pytest.approx(0.2)
    assert (interval.lower, interval.upper) == (-np.inf, np.inf)
    assert not interval.has_bounds
    two_days = quality.day_block_interval(np.array([0.1, 0.3]), np.array([4, 5]), seed=0)
    assert two_days.has_bounds


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


def test_calibration_has_fifteen_bins_of_equal_row_counts_in_the_order_of_scores() -> None:
    scores = np.linspace(0, 1, 45)[::-1].copy()
    labels = (scores > 0.5).astype(np.int64)
    table = quality.calibration(labels, scores)
    assert [rows for _, _, rows in table] == [3] * 15
    means = [score for score, _, _ in table]
    assert means == sorted(means)
    assert quality.calibration(labels[:2], scores[:2], bins=3) == [
        (pytest.approx(scores[1]), 1.0, 1),
        (pytest.approx(scores[0]), 1.0, 1),
    ]


def test_the_calibration_error_weighs_bins_by_their_rows() -> None:
    labels = np.array([0] * 15 + [1])
    scores = np.full(16, 0.25)
    table = quality.calibration(labels, scores)
    assert [rows for _, _, rows in table] == [2] + [1] * 14
    assert quality.calibration_error(labels, scores) == pytest.approx((15 * 0.25 + 0.75) / 16)


def test_the_interval_holds_the_middle_of_what_resampled_days_give() -> None:
    """By another way: each draw is a plain loop over whole days."""
    rng = np.random.default_rng(11)
    rows_a_day = [1, 2, 3, 50]
    days = np.repeat([4, 7, 8, 9], rows_a_day)
    differences = rng.normal(0, 1, len(days))
    interval = quality.day_block_interval(differences, days, seed=3)
    draws = np.random.default_rng(3).integers(0, 4, size=(2_000, 4))
    by_day = [differences[days == day] for day in (4, 7, 8, 9)]
    means = sorted(float(np.concatenate([by_day[i] for i in draw]).mean()) for draw in draws)
    assert interval.value == pytest.approx(differences.mean())
    assert interval.lower == pytest.approx(np.quantile(means, 0.05))
    assert interval.upper == pytest.approx(np.quantile(means, 0.95))


def test_slices_give_the_loss_of_their_own_rows_and_a_category_in_order() -> None:
    losses = np.array([1.0, 2.0, 3.0, 5.0])
    categories = {"a": ["x", "y", "x", "y"], "b": ["q"] * 4}
    parts = quality.slices(categories, losses, None, min_rows=2)
    assert [(s.name, s.rows, s.log_loss) for s in parts] == [
        ("a=x", 2, 2.0),
        ("a=y", 2, 3.5),
        ("b=q", 4, 2.75),
    ]


def test_the_bias_has_a_sign_and_the_loss_depends_on_the_label() -> None:
    labels, scores = np.array([1, 0, 0, 0]), np.array([0.9, 0.9, 0.2, 0.4])
    assert quality.bias(labels, scores) == pytest.approx(0.35)
    assert quality.brier(labels, scores) == pytest.approx((0.01 + 0.81 + 0.04 + 0.16) / 4)
    losses = quality.log_losses(labels, scores)
    assert losses == pytest.approx(-np.log([0.9, 0.1, 0.8, 0.6]))

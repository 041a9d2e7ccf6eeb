"""Columns with missing values are named, and columns without any value are not trained on."""

import pytest

from ml.evaluation.null_rates import null_report


def test_a_column_without_values_in_training_is_unusable_and_no_alarm() -> None:
    report = null_report({"gust": 1.0, "wind": 0.1}, {"gust": 0.2, "wind": 0.1})
    assert report.unusable == ("gust",)
    assert report.turned_null == ()
    assert report.growth == pytest.approx(1.0)


def test_a_column_that_lost_all_values_is_named() -> None:
    report = null_report({"wind": 0.1, "rain": 0.0}, {"wind": 1.0, "rain": 0.0})
    assert report.turned_null == ("wind",)


def test_the_column_with_the_largest_growth_of_nulls_is_named() -> None:
    report = null_report({"a": 0.10, "b": 0.00}, {"a": 0.20, "b": 0.05})
    assert (report.worst, report.growth) == ("b", pytest.approx(6.0))


def test_a_few_more_nulls_in_a_full_column_are_no_alarm() -> None:
    assert null_report({"a": 0.001}, {"a": 0.004}).growth < 1.5


def test_without_columns_there_is_nothing_to_report() -> None:
    report = null_report({}, {})
    assert (report.unusable, report.turned_null, report.growth) == ((), (), 1.0)

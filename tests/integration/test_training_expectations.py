"""Every expectation of the flights project is broken once and reported by Great Expectations."""

import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from infra.clock import to_us
from ml.bootstrap import set_switches
from ml.project import KEYS, Expectation
from ml.projects.flight_delay import PROJECT
from tests.support.data.flight_history import SyntheticHistory
from tests.support.data.small_project import DAY

set_switches(os.environ)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the library uses deprecated Python; we cannot fix that
    from ml.adapters.great_expectations import GreatExpectations

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

FIRST = pl.int_range(pl.len()) < 5
SOME = pl.int_range(pl.len()) % 10 == 0


@pytest.fixture(scope="module")
def good() -> pl.DataFrame:
    rows = SyntheticHistory(rows_a_day=100)(
        PROJECT.service,
        PROJECT.label,
        start_us=0,
        end_us=to_us(DAY),
        known_before_us=2 * to_us(DAY),
    )
    return rows.frame.drop("label_known_at_us").with_columns(
        dest=pl.lit("LAX"), distance_miles=pl.col("distance_miles").clip(100, 2_000)
    )


def spoil(column: str, value: Any, *, rows: pl.Expr = FIRST) -> Callable[[Any], pl.DataFrame]:
    return lambda frame: frame.with_columns(
        pl.when(rows).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)
    )


BREAKS: dict[tuple[str, str], Callable[[pl.DataFrame], pl.DataFrame]] = {
    ("not_be_null", "entity_id"): spoil("entity_id", None),
    ("be_unique", "entity_id"): spoil("entity_id", "F0-1"),
    ("be_in_set", "label"): spoil("label", 2),
    ("mean_to_be_between", "label"): spoil("label", 1, rows=pl.lit(value=True)),
    ("be_in_set", "origin"): spoil("origin", "BOS"),
    ("lengths_to_equal", "carrier"): spoil("carrier", "AAL"),
    ("lengths_to_equal", "dest"): spoil("dest", "LAXX"),
    ("be_between", "distance_miles"): spoil("distance_miles", 9_000.0),
    ("be_between", "local_minute"): spoil("local_minute", 1_440.0),
    ("be_between", "weekday"): spoil("weekday", 0.0),
    ("be_between", "block_minutes"): spoil("block_minutes", -30.0),
    ("be_between", "origin_weather_last_wind_speed_mph_6h"): spoil(
        "origin_weather_last_wind_speed_mph_6h", 1_048.0, rows=SOME
    ),
    ("not_be_null", "origin_weather_last_temperature_f_6h"): spoil(
        "origin_weather_last_temperature_f_6h", float("nan"), rows=SOME
    ),
    ("quantile", "origin_departures_mean_delay_24h"): lambda frame: frame.with_columns(
        origin_departures_mean_delay_24h=pl.col("origin_departures_mean_delay_24h") * 60
    ),
}


def test_a_good_training_set_breaks_no_expectation_and_has_a_page(
    good: pl.DataFrame, tmp_path: Path
) -> None:
    assert GreatExpectations().examine(good.lazy(), PROJECT.expectations, docs=tmp_path) == []
    (page,) = tmp_path.glob("validations/**/*.html")
    text = page.read_text()
    assert text.count('<tr class="holds">') == len(PROJECT.expectations)
    assert "broken" not in text.partition("<table>")[2]


def test_text_of_an_event_is_no_part_of_the_page_but_shown_on_it(
    good: pl.DataFrame, tmp_path: Path
) -> None:
    hostile = "<script src='//evil.example'></script><img src=x onerror=alert(1)>"
    GreatExpectations().examine(
        spoil("origin", hostile)(good).lazy(), PROJECT.expectations, docs=tmp_path
    )

    (page,) = tmp_path.glob("**/*.html")
    text = page.read_text()
    assert "&lt;script src=" in text
    assert "5 of" in text
    assert not re.search(r"<(script|img|iframe|link|object)|https?:|\bon\w+\s*=\s*[\"']", text)


def test_every_expectation_has_its_bad_example_here() -> None:
    assert len(BREAKS) == len(PROJECT.expectations)


@pytest.mark.parametrize(("kind", "column"), BREAKS)
def test_a_broken_expectation_is_reported_with_its_reason(
    kind: str, column: str, good: pl.DataFrame, tmp_path: Path
) -> None:
    (declared,) = [
        e for e in PROJECT.expectations if kind in e.kind and e.arguments["column"] == column
    ]
    bad = BREAKS[kind, column](good)
    (finding,) = GreatExpectations().examine(bad.lazy(), [declared], docs=tmp_path)
    assert (finding.severity, finding.why) == (declared.severity, declared.why)
    assert column in finding.expectation
    assert finding.observed


def test_several_broken_expectations_are_reported_in_declaration_order(
    good: pl.DataFrame, tmp_path: Path
) -> None:
    bad = good
    for column in ("origin", "dest", "block_minutes"):
        bad = next(spoiled for (_, c), spoiled in BREAKS.items() if c == column)(bad)
    findings = GreatExpectations().examine(bad.lazy(), PROJECT.expectations, docs=tmp_path)
    assert [f.why for f in findings] == [
        e.why
        for e in PROJECT.expectations
        if e.arguments["column"] in ("origin", "dest", "block_minutes")
    ]


def test_an_expectation_that_cannot_be_checked_is_reported_as_broken(
    good: pl.DataFrame, tmp_path: Path
) -> None:
    without_column = good.drop("block_minutes")
    findings = GreatExpectations().examine(
        without_column.lazy(), PROJECT.expectations, docs=tmp_path
    )
    assert [f.severity for f in findings] == ["critical"]
    assert "could not be checked" in findings[0].observed


def test_expectations_name_only_columns_of_the_training_set() -> None:
    columns = {*PROJECT.columns, *KEYS}
    assert {e.arguments["column"] for e in PROJECT.expectations} <= columns


def test_a_missing_text_counts_as_null_where_an_expectation_asks_for_it(
    good: pl.DataFrame, tmp_path: Path
) -> None:
    """In a training set a missing text is the empty text."""
    bad = spoil("carrier", "")(good)
    complete = Expectation(
        kind="expect_column_values_to_not_be_null", arguments={"column": "carrier"}, why="known"
    )
    short = Expectation(
        kind="expect_column_value_lengths_to_equal",
        arguments={"column": "dest", "value": 3},
        why="codes",
    )
    (finding,) = GreatExpectations().examine(bad.lazy(), [complete, short], docs=tmp_path)
    assert (finding.why, finding.observed[:4]) == ("known", "5 of")
    other = spoil("dest", "")(good)
    (finding,) = GreatExpectations().examine(other.lazy(), [complete, short], docs=tmp_path)
    assert (finding.why, finding.observed[:4]) == ("codes", "5 of")


def test_only_the_columns_that_expectations_name_are_read(
    good: pl.DataFrame, tmp_path: Path
) -> None:
    def fail(_: pl.Series) -> pl.Series:
        raise AssertionError("this column was read")

    rows = good.lazy().with_columns(
        pl.col("distance_miles").map_batches(fail, return_dtype=pl.Float64).alias("unnamed")
    )
    assert GreatExpectations().examine(rows, PROJECT.expectations, docs=tmp_path) == []


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("expect_table_column_count_to_be_between", {"min_value": 40}),
        ("expect_table_row_count_to_be_between", {"min_value": 100}),
        ("expect_column_to_exist", {"column": "distance_miles", "column_index": 0}),
        (
            "expect_column_values_to_be_between",
            {
                "column": "weekday",
                "min_value": 8,
                "row_condition": 'distance_miles > 9000 and carrier == "AA"',
                "condition_parser": "pandas",
            },
        ),
    ],
)
def test_an_expectation_about_the_whole_table_sees_all_of_it(
    kind: str, arguments: dict[str, Any], good: pl.DataFrame, tmp_path: Path
) -> None:
    if "column_index" in arguments:
        arguments["column_index"] = good.columns.index(arguments["column"])
    about_the_table = Expectation(kind=kind, arguments=arguments, why="all of it")
    others = [e for e in PROJECT.expectations if e.columns == ("weekday",)]
    findings = GreatExpectations().examine(good.lazy(), [*others, about_the_table], docs=tmp_path)
    assert findings == []

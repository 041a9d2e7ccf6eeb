"""Great Expectations, in memory: no project folder, no telemetry. Importing it takes seconds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import great_expectations as gx
from great_expectations.expectations.core import (
    expect_column_quantile_values_to_be_between as quantiles,
)

from ml.adapters.validation_page import Row, write_page
from ml.project import Expectation
from ml.results import Finding

if TYPE_CHECKING:
    import polars as pl

NUMBER = "number"
ABOUT_NULLS = (
    "expect_column_values_to_not_be_null",
    "expect_column_values_to_be_null",
    "expect_column_proportion_of_non_null_values_to_be_between",
)


class GreatExpectations:
    """Each call has a context of its own; nothing outlives it but the pages."""

    def examine(
        self, rows: pl.LazyFrame, expectations: Sequence[Expectation], *, docs: Path
    ) -> list[Finding]:
        """Findings in the order of the declaration. Missing numbers count as null.

        A missing text is "" in a training set. It counts as null in the columns about which an
        expectation asks for that; elsewhere it stays a text that other expectations judge.
        """
        _fix_quantiles()
        context: Any = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False, "metric_calculations": False}
        suite = context.suites.add(
            gx.ExpectationSuite(
                name="training_set", expectations=[_spec(*e) for e in enumerate(expectations)]
            )
        )
        source = context.data_sources.add_pandas("snapshot")
        batch = source.add_dataframe_asset("rows").add_batch_definition_whole_dataframe("all")
        definition = context.validation_definitions.add(
            gx.ValidationDefinition(name="snapshot", data=batch, suite=suite)
        )
        checkpoint = context.checkpoints.add(
            gx.Checkpoint(
                name="snapshot",
                validation_definitions=[definition],
                result_format="SUMMARY",
            )
        )
        # Of a lazy frame no copy stays in memory beside that of pandas.
        frame = _with_nulls(_read(rows, expectations), expectations).collect().to_pandas()
        result = checkpoint.run(batch_parameters={"dataframe": frame})
        (run,) = result.run_results.values()
        write_page(_rows(run.results, expectations), docs)
        return _findings(run.results, expectations)


def _read(rows: pl.LazyFrame, expectations: Sequence[Expectation]) -> pl.LazyFrame:
    """The columns that the expectations read: the library copies all columns of a frame, again and
    again. One that is not there is missed by the library itself."""
    if any(e.sees_whole_table for e in expectations):
        return rows
    read = {column for e in expectations for column in e.columns}
    return rows.select(name for name in rows.collect_schema() if name in read)


def _with_nulls(rows: pl.LazyFrame, expectations: Sequence[Expectation]) -> pl.LazyFrame:
    import polars as pl

    asked = {e.arguments.get("column") for e in expectations if e.kind in ABOUT_NULLS}
    texts = [c for c, kind in rows.collect_schema().items() if kind == pl.String and c in asked]
    return rows.fill_nan(None).with_columns(pl.col(texts).replace("", None))


def _spec(number: int, expectation: Expectation) -> dict[str, Any]:
    return {
        "type": expectation.kind,
        "kwargs": dict(expectation.arguments),
        "severity": expectation.severity,
        "meta": {"why": expectation.why, NUMBER: number},
    }


def _findings(results: Sequence[Any], expectations: Sequence[Expectation]) -> list[Finding]:
    """Results come in another order than declared, and their arguments in other types."""
    broken = {r.expectation_config.meta[NUMBER]: r for r in results if not r.success}
    return [
        Finding(
            expectation=_name(expectations[number]),
            severity=expectations[number].severity,
            observed=_observed(broken[number]),
            why=expectations[number].why,
        )
        for number in sorted(broken)
    ]


def _rows(results: Sequence[Any], expectations: Sequence[Expectation]) -> list[Row]:
    """In the order of the declaration."""
    by_number = {r.expectation_config.meta[NUMBER]: r for r in results}
    return [
        Row(
            expectation=_name(expectations[number]),
            why=expectations[number].why,
            severity=expectations[number].severity,
            holds=bool(by_number[number].success),
            observed=_observed(by_number[number]),
        )
        for number in sorted(by_number)
    ]


def _name(expectation: Expectation) -> str:
    return f"{expectation.kind}({json.dumps(dict(expectation.arguments), sort_keys=True)})"


def _observed(result: Any) -> str:
    """What was seen, short: a value, or how many rows and some of their values."""
    raised = [text for text in map(_raised, _exceptions(result.exception_info)) if text]
    if raised:
        return f"could not be checked: {raised[0]}"
    seen = result.result or {}
    if "unexpected_count" in seen:
        examples = seen.get("partial_unexpected_list", [])[:3]
        counts = f"{seen['unexpected_count']:,} of {seen.get('element_count', 0):,} rows break it"
        return f"{counts}, such as {examples}" if examples else counts
    return f"observed {seen.get('observed_value')}"


def _exceptions(info: Any) -> list[Any]:
    return [info] if not info or "raised_exception" in info else list(info.values())


def _raised(info: Any) -> str:
    return str(info.get("exception_message")) if info and info.get("raised_exception") else ""


def _fix_quantiles() -> None:
    """The quantile expectation returns numpy's bool, which no JSON encoder takes (GX 1.24)."""
    kind: Any = quantiles.ExpectColumnQuantileValuesToBeBetween
    if hasattr(kind, "_eventide_fixed"):
        return
    original = kind._validate

    def validate(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        result["success"] = bool(result["success"])
        return result

    kind._validate, kind._eventide_fixed = validate, True

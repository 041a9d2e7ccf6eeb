"""Live predictions are compared with their labels, beside two baselines."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from features.contracts.predictions import Outcome
from features.definitions import FeatureService, Label
from features.retrieval.historical import TrainingRows
from infra.clock import DAY, HOUR, to_us
from ml.errors import NothingToReport
from ml.live_performance import LiveReport, for_reference, live_report
from tests.support.data.flight_history import SyntheticHistory
from tests.support.data.small_project import DAY as RUN_DAY
from tests.support.data.small_project import small_project

PROJECT = small_project()
HISTORY = SyntheticHistory(rows_a_day=200)
START, END = to_us(RUN_DAY), to_us(RUN_DAY) + 2 * DAY
AS_OF = END + 12 * HOUR


def rows() -> Any:
    return HISTORY(
        PROJECT.service, PROJECT.label, start_us=START, end_us=END, known_before_us=AS_OF
    ).frame


def prediction(entity_id: str, at_us: int, score: float, **changes: Any) -> Outcome:
    outcome = Outcome(
        outcome="predicted",
        source=f"requests-0-{entity_id}",
        scored_at_us=at_us,
        entity_id=entity_id,
        decision_time_us=at_us,
        score=score,
        model=PROJECT.name,
        model_version="1",
        features_exact=True,
    )
    return msgspec.structs.replace(outcome, **changes)


def predictions(**changes: Any) -> list[Outcome]:
    """One prediction for each decision, nearly perfect."""
    return [
        msgspec.structs.replace(prediction(entity, at, 0.9 if label else 0.1), **changes)
        for entity, at, label in rows().select("entity_id", "decision_time_us", "label").iter_rows()
    ]


def report_on(outcomes: list[Outcome], **changes: Any) -> LiveReport:
    span = {"start_us": START, "end_us": END, "as_of_us": AS_OF, **changes}
    return live_report(PROJECT, outcomes, history=HISTORY, **span)


@pytest.fixture(scope="module")
def good() -> LiveReport:
    return report_on(predictions())


def test_perfect_predictions_beat_the_baselines(good: LiveReport) -> None:
    assert (good.predictions, good.total.model.rows, good.unlabelled) == (400, 400, 0)
    assert good.total.model.roc_auc == 1.0
    assert good.total.model.log_loss == pytest.approx(0.1054, abs=1e-3)
    assert good.minus_reference.upper < 0
    assert good.total.reference.log_loss < good.total.base_rate.log_loss


def test_each_version_is_judged_on_its_own_decisions() -> None:
    outcomes = predictions()
    outcomes[:100] = [
        msgspec.structs.replace(f, model_version="2", score=0.5) for f in outcomes[:100]
    ]
    by_version = {v.version: v.model for v in report_on(outcomes).versions}
    assert (by_version["1"].rows, by_version["2"].rows) == (300, 100)
    assert by_version["2"].log_loss == pytest.approx(0.6931, abs=1e-3)


def test_a_second_prediction_for_a_decision_is_ignored(good: LiveReport) -> None:
    doubled = [*predictions(), *predictions(scored_at_us=END, score=0.5)]
    assert report_on(doubled).total == good.total


def test_predictions_outside_the_span_or_the_project_are_omitted(good: LiveReport) -> None:
    others = [
        prediction("F1-1", START - 1, 0.5),
        prediction("F1-2", END, 0.5),
        prediction("F30-1", START, 0.5, model="other_model"),
    ]
    assert report_on([*predictions(), *others]) == good


def test_rejected_inexact_stale_and_unlabelled_predictions_are_counted() -> None:
    outcomes = predictions()
    outcomes[0] = msgspec.structs.replace(outcomes[0], features_exact=False)
    outcomes[1:3] = [msgspec.structs.replace(f, features_fresh=False) for f in outcomes[1:3]]
    outcomes.append(prediction("cancelled", START, 0.5))
    outcomes.append(prediction("bad", START, 0.5, outcome="rejected", model=None))
    report = report_on(outcomes)
    assert (report.inexact, report.stale, report.unlabelled, report.rejected) == (1, 2, 1, 1)
    assert report.answered == 402


def test_labels_known_after_the_time_of_the_report_are_not_used() -> None:
    early = report_on(predictions(), as_of_us=END)
    assert 0 < early.unlabelled < 400
    assert early.total.model.rows + early.unlabelled == 400


@pytest.mark.parametrize(
    ("outcomes", "changes", "named"),
    [
        ([], {}, "no prediction"),
        ([prediction("cancelled", START, 0.5)], {}, "none has a label"),
        ([], {"as_of_us": END - 1}, "ends at"),
    ],
)
def test_a_report_without_predictions_or_labels_is_an_error(
    outcomes: list[Outcome], changes: dict[str, int], named: str
) -> None:
    with pytest.raises(NothingToReport, match=named):
        report_on(outcomes, **changes)


def test_the_baselines_do_not_depend_on_the_span(tmp_path: Path) -> None:
    """Inverting all labels of the span changes the model's loss, but not the base rate."""
    import polars as pl

    inside = pl.col("decision_time_us") >= START
    inverted = SyntheticHistory(
        rows_a_day=200,
        change=lambda f: f.with_columns(
            label=pl.when(inside).then(1 - pl.col("label")).otherwise(pl.col("label"))
        ),
    )
    span = {"start_us": START, "end_us": END, "as_of_us": AS_OF}
    report = live_report(PROJECT, predictions(), history=inverted, **span)
    honest = report_on(predictions())
    base_rate = report.total.base_rate.bias + report.total.base_rate.share
    assert base_rate == pytest.approx(honest.total.base_rate.bias + honest.total.base_rate.share)


def test_labels_known_within_the_span_do_not_change_the_baselines() -> None:
    import polars as pl

    earlier = pl.col("decision_time_us") < START - DAY
    known_late = earlier & (pl.col("label") == 1)
    slow = SyntheticHistory(
        rows_a_day=200,
        change=lambda f: f.with_columns(
            label_known_at_us=pl.when(known_late & (pl.int_range(pl.len()) % 2 == 0))
            .then(START + HOUR)
            .otherwise(pl.col("label_known_at_us"))
        ),
    )
    report = live_report(
        PROJECT, predictions(), history=slow, start_us=START, end_us=END, as_of_us=AS_OF
    )
    honest = report_on(predictions())
    assert report.total.base_rate.bias < honest.total.base_rate.bias - 0.05


def test_a_report_reads_only_the_columns_of_the_reference_model() -> None:
    """All features of a year cost five times as much as the rest of the report."""
    read: list[FeatureService] = []

    def history(service: FeatureService, label: Label, **span: int) -> TrainingRows:
        read.append(service)
        return HISTORY(service, label, **span)

    span = {"start_us": START, "end_us": END, "known_before_us": AS_OF}
    with pytest.raises(KeyError):  # the made-up labels need a feature of a view
        for_reference(PROJECT, history)(PROJECT.service, PROJECT.label, **span)
    (service,) = read
    assert PROJECT.reference.columns is not None
    assert {*service.categories, *service.numbers} == set(PROJECT.reference.columns)
    assert (service.decision, service.views) == (PROJECT.service.decision, ())
    everything = replace(PROJECT, reference=replace(PROJECT.reference, columns=None))
    for_reference(everything, history)(PROJECT.service, PROJECT.label, **span)
    assert read[1] == PROJECT.service

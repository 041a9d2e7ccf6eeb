"""Live forecasts are judged by what happened, beside two forecasts that anybody could make."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from features.contracts.predictions import Outcome
from infra.clock import DAY, HOUR, to_us
from ml.errors import NothingToReport
from ml.live_performance import Report, report
from tests.support.data.flight_history import MadeHistory
from tests.support.data.small_project import DAY as RUN_DAY
from tests.support.data.small_project import small_project

PROJECT = small_project()
HISTORY = MadeHistory(rows_a_day=200)
START, END = to_us(RUN_DAY), to_us(RUN_DAY) + 2 * DAY
AS_OF = END + 12 * HOUR


def rows() -> Any:
    return HISTORY(
        PROJECT.service, PROJECT.label, start_us=START, end_us=END, known_before_us=AS_OF
    ).frame


def forecast(entity_id: str, at_us: int, score: float, **changes: Any) -> Outcome:
    made = Outcome(
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
    return msgspec.structs.replace(made, **changes)


def forecasts(**changes: Any) -> list[Outcome]:
    """One for each decision; they know nearly everything."""
    return [
        msgspec.structs.replace(forecast(entity, at, 0.9 if label else 0.1), **changes)
        for entity, at, label in rows().select("entity_id", "decision_time_us", "label").iter_rows()
    ]


def asked(answers: list[Outcome], **changes: Any) -> Report:
    span = {"start_us": START, "end_us": END, "as_of_us": AS_OF, **changes}
    return report(PROJECT, answers, history=HISTORY, **span)


@pytest.fixture(scope="module")
def good() -> Report:
    return asked(forecasts())


def test_a_forecast_that_knows_beats_the_plain_ones(good: Report) -> None:
    assert (good.forecasts, good.total.model.rows, good.unlabelled) == (400, 400, 0)
    assert good.total.model.roc_auc == 1.0
    assert good.total.model.log_loss == pytest.approx(0.1054, abs=1e-3)
    assert good.minus_reference.upper < 0
    assert good.total.reference.log_loss < good.total.base_rate.log_loss


def test_each_version_is_judged_on_its_own_decisions() -> None:
    answers = forecasts()
    answers[:100] = [
        msgspec.structs.replace(f, model_version="2", score=0.5) for f in answers[:100]
    ]
    found = {v.version: v.model for v in asked(answers).versions}
    assert (found["1"].rows, found["2"].rows) == (300, 100)
    assert found["2"].log_loss == pytest.approx(0.6931, abs=1e-3)


def test_a_second_answer_for_a_decision_counts_for_nothing(good: Report) -> None:
    doubled = [*forecasts(), *forecasts(scored_at_us=END, score=0.5)]
    assert asked(doubled).total == good.total


def test_what_is_not_of_the_span_or_the_project_is_left_out(good: Report) -> None:
    others = [
        forecast("F1-1", START - 1, 0.5),
        forecast("F1-2", END, 0.5),
        forecast("F30-1", START, 0.5, model="other_model"),
    ]
    assert asked([*forecasts(), *others]) == good


def test_rejected_inexact_stale_and_unlabelled_ones_are_counted() -> None:
    answers = forecasts()
    answers[0] = msgspec.structs.replace(answers[0], features_exact=False)
    answers[1:3] = [msgspec.structs.replace(f, features_fresh=False) for f in answers[1:3]]
    answers.append(forecast("cancelled", START, 0.5))
    answers.append(forecast("bad", START, 0.5, outcome="rejected", model=None))
    found = asked(answers)
    assert (found.inexact, found.stale, found.unlabelled, found.rejected) == (1, 2, 1, 1)
    assert found.answered == 402


def test_labels_that_came_after_the_moment_are_not_used() -> None:
    early = asked(forecasts(), as_of_us=END)
    assert 0 < early.unlabelled < 400
    assert early.total.model.rows + early.unlabelled == 400


@pytest.mark.parametrize(
    ("answers", "changes", "named"),
    [
        ([], {}, "no forecast"),
        ([forecast("cancelled", START, 0.5)], {}, "no outcome"),
        ([], {"as_of_us": END - 1}, "ends at"),
    ],
)
def test_with_nothing_to_judge_it_says_so(
    answers: list[Outcome], changes: dict[str, int], named: str
) -> None:
    with pytest.raises(NothingToReport, match=named):
        asked(answers, **changes)


def test_the_plain_forecasts_know_nothing_of_the_span(tmp_path: Path) -> None:
    """Turning all labels of the span around changes the model's loss, not the base rate given."""
    import polars as pl

    inside = pl.col("decision_time_us") >= START
    turned = MadeHistory(
        rows_a_day=200,
        change=lambda f: f.with_columns(
            label=pl.when(inside).then(1 - pl.col("label")).otherwise(pl.col("label"))
        ),
    )
    span = {"start_us": START, "end_us": END, "as_of_us": AS_OF}
    found = report(PROJECT, forecasts(), history=turned, **span)
    honest = asked(forecasts())
    given = found.total.base_rate.bias + found.total.base_rate.share
    assert given == pytest.approx(honest.total.base_rate.bias + honest.total.base_rate.share)


def test_what_became_known_within_the_span_teaches_the_plain_forecasts_nothing() -> None:
    import polars as pl

    before = pl.col("decision_time_us") < START - DAY
    learnt_late = before & (pl.col("label") == 1)
    slow = MadeHistory(
        rows_a_day=200,
        change=lambda f: f.with_columns(
            label_known_at_us=pl.when(learnt_late & (pl.int_range(pl.len()) % 2 == 0))
            .then(START + HOUR)
            .otherwise(pl.col("label_known_at_us"))
        ),
    )
    found = report(PROJECT, forecasts(), history=slow, start_us=START, end_us=END, as_of_us=AS_OF)
    honest = asked(forecasts())
    assert found.total.base_rate.bias < honest.total.base_rate.bias - 0.05

"""Each gate holds a candidate for its own reason, and a missing number holds it too."""

from typing import Any

import pytest

from ml.errors import InvalidProject
from ml.evaluation.gates import check_candidate, check_data, reasons
from ml.project import Gate, When
from ml.projects.flight_delay import PROJECT

GOOD_DATA: dict[str, float | None] = {
    "training_rows": 60_000,
    "evaluation_rows": 6_000,
    "missing_days": 0,
    "label_completeness": 0.97,
    "columns_turned_null": 0,
    "null_growth": 1.2,
}
GOOD_FIRST: dict[str, float | None] = {
    "log_loss_minus_base_rate_upper": -0.05,
    "log_loss_minus_reference_upper": -0.03,
    "absolute_bias": 0.03,
}
GOOD_CONTEST: dict[str, float | None] = {
    "champion_overlap_hours": 0.0,
    "log_loss_minus_champion_upper": -0.001,
    "absolute_bias": 0.015,
    "champion_absolute_bias": 0.01,
    "worst_slice_change": 0.004,
}
BAD_DATA = {
    "training_rows": 19_999,
    "evaluation_rows": 3_999,
    "missing_days": 1,
    "label_completeness": 0.89,
    "columns_turned_null": 1,
    "null_growth": 3.01,
}
BAD_FIRST = {
    "log_loss_minus_base_rate_upper": 0.0,
    "log_loss_minus_reference_upper": 0.0001,
    "absolute_bias": 0.051,
}
BAD_CONTEST = {
    "champion_overlap_hours": 0.1,
    "log_loss_minus_champion_upper": 0.0,
    "absolute_bias": 0.021,
    "worst_slice_change": 0.0201,
}


def test_good_data_and_good_candidates_pass() -> None:
    assert reasons(check_data(PROJECT.gates, GOOD_DATA)) == []
    assert reasons(check_candidate(PROJECT.gates, GOOD_FIRST, has_champion=False)) == []
    assert reasons(check_candidate(PROJECT.gates, GOOD_CONTEST, has_champion=True)) == []


def test_every_gate_of_the_project_has_its_bad_example_here() -> None:
    judged = {(g.measure, g.when) for g in PROJECT.gates}
    examples = {(m, When.ALWAYS) for m in BAD_DATA} | {(m, When.NO_CHAMPION) for m in BAD_FIRST}
    assert judged == examples | {(m, When.HAS_CHAMPION) for m in BAD_CONTEST}


@pytest.mark.parametrize(("measure", "bad"), BAD_DATA.items())
def test_bad_data_is_held_for_that_reason_alone(measure: str, bad: float) -> None:
    (reason,) = reasons(check_data(PROJECT.gates, {**GOOD_DATA, measure: bad}))
    assert reason.startswith(measure)
    assert _why(measure, When.ALWAYS) in reason


@pytest.mark.parametrize(("measure", "bad"), BAD_FIRST.items())
def test_a_bad_first_candidate_is_held_for_that_reason_alone(measure: str, bad: float) -> None:
    (reason,) = reasons(
        check_candidate(PROJECT.gates, {**GOOD_FIRST, measure: bad}, has_champion=False)
    )
    assert reason.startswith(measure)
    assert _why(measure, When.NO_CHAMPION) in reason


@pytest.mark.parametrize(("measure", "bad"), BAD_CONTEST.items())
def test_a_bad_challenger_is_held_for_that_reason_alone(measure: str, bad: float) -> None:
    (reason,) = reasons(
        check_candidate(PROJECT.gates, {**GOOD_CONTEST, measure: bad}, has_champion=True)
    )
    assert reason.startswith(measure)
    assert _why(measure, When.HAS_CHAMPION) in reason


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_candidate_with_a_missing_measure_is_held(missing: float | None) -> None:
    for gate in PROJECT.gates:
        good = GOOD_CONTEST if gate.when is When.HAS_CHAMPION else GOOD_FIRST
        measures = {**GOOD_DATA, **good, gate.measure: missing}
        checks = check_data(PROJECT.gates, measures) + check_candidate(
            PROJECT.gates, measures, has_champion=gate.when is When.HAS_CHAMPION
        )
        (reason,) = reasons(checks)
        assert f"{gate.measure} is not known" in reason


def test_a_biased_challenger_passes_when_the_champion_is_more_biased() -> None:
    measures = {**GOOD_CONTEST, "absolute_bias": 0.06, "champion_absolute_bias": 0.07}
    assert reasons(check_candidate(PROJECT.gates, measures, has_champion=True)) == []


@pytest.mark.parametrize(
    "mistake",
    [
        {"measure": "sharpness", "at_least": 1.0},
        {"measure": "roc_auc"},
        {"measure": "roc_auc", "at_least": 0.5, "below": 0.6},
        {"measure": "roc_auc", "at_least": 0.5, "why": ""},
        {"measure": "worst_slice_change", "at_most": 0.1},  # exists only against a champion
        {"measure": "ece", "at_most": 0.1, "or_at_most": "nothing"},
    ],
)
def test_an_invalid_gate_cannot_be_declared(mistake: dict[str, Any]) -> None:
    with pytest.raises(InvalidProject):
        Gate(**{"why": "a test", **mistake})


def _why(measure: str, when: When) -> str:
    return next(g.why for g in PROJECT.gates if g.measure == measure and g.when is when)

"""Each gate holds a candidate for its own reason, and a missing number holds it too."""

from collections.abc import Mapping
from typing import Any

import pytest

from ml.errors import InvalidProject
from ml.evaluation import default_gates
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


def applied(gate: Gate, measures: Mapping[str, float | None], *, has_champion: bool = False) -> Any:
    (result,) = check_candidate([gate], measures, has_champion=has_champion)
    return result


@pytest.mark.parametrize(
    ("bound", "below", "at", "above"),
    [
        ({"at_least": 0.5}, False, True, True),
        ({"at_most": 0.5}, True, True, False),
        ({"below": 0.5}, True, False, False),
        ({"at_most": 0.0}, True, False, False),
    ],
)
def test_a_bound_says_whether_it_is_part_of_what_passes(
    bound: dict[str, float], below: bool, at: bool, above: bool
) -> None:
    gate = Gate(measure="roc_auc", why="a test", **bound)  # type: ignore[arg-type]
    values = (-0.25, 0.5, 0.75)
    assert [applied(gate, {"roc_auc": v}).passed for v in values] == [below, at, above]


def test_another_measure_may_excuse_a_value_up_to_itself() -> None:
    gate = next(g for g in PROJECT.gates if g.or_at_most)
    assert gate.or_at_most == "champion_absolute_bias"
    values = {v: {gate.measure: v, gate.or_at_most: 0.25} for v in (0.25, 0.26)}
    passed, held = (applied(gate, m, has_champion=True) for m in values.values())
    assert (passed.passed, held.passed) == (True, False)
    assert (
        passed.text
        == "absolute_bias 0.25, wanted at most 0.02 or at most 0.25 (champion_absolute_bias)"
    )
    assert held.text == (
        "absolute_bias 0.26, wanted at most 0.02 or at most 0.25 (champion_absolute_bias):"
        f" {gate.why}"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(28_250.0, "28,250"), (0.014_762, "0.01476"), (-3.0, "-3"), (2.5, "2.5"), (-2.5, "-2.5")],
)
def test_a_number_is_written_whole_or_with_four_digits(value: float, text: str) -> None:
    gate = Gate(measure="roc_auc", at_least=-10, why="a test")
    assert applied(gate, {"roc_auc": value}).text == f"roc_auc {text}, wanted at least -10"


def test_gates_apply_before_training_or_to_candidates_and_never_twice() -> None:
    measures = {**GOOD_DATA, **GOOD_FIRST, **GOOD_CONTEST}
    before = {r.measure for r in check_data(PROJECT.gates, measures)}
    first = {r.measure for r in check_candidate(PROJECT.gates, measures, has_champion=False)}
    contest = {r.measure for r in check_candidate(PROJECT.gates, measures, has_champion=True)}
    assert before == BAD_DATA.keys()
    assert first == BAD_FIRST.keys()
    assert contest == BAD_CONTEST.keys()


def test_the_default_gates_hold_at_their_bounds() -> None:
    silent = check_data([default_gates.NO_SILENT_SOURCE], {"columns_turned_null": 1})
    assert [r.passed for r in silent] == [False]
    constant = {"log_loss_minus_base_rate_upper": 0.0}
    assert not applied(default_gates.BETTER_THAN_A_CONSTANT, constant).passed
    assert applied(
        default_gates.BETTER_THAN_A_CONSTANT, {"log_loss_minus_base_rate_upper": -0.001}
    ).passed
    seen = default_gates.UNSEEN_BY_THE_CHAMPION
    for hours, passed in ((0.0, True), (0.5, False), (-0.5, True)):
        result = applied(seen, {"champion_overlap_hours": hours}, has_champion=True)
        assert result.passed is passed

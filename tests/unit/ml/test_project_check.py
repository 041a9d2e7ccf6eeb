"""Wrong projects: each gives its one sentence, with its place and a remedy where there is one."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from features import catalog
from features.catalog import domain
from features.catalog.purchases.services import BOUGHT_AGAIN
from features.catalog_check import mistake_of
from features.definitions.validation import collecting
from ml import projects
from ml.errors import InvalidProject
from ml.project import Candidate, Expectation, Gate, ModelProject, Slices
from ml.project_check import check_projects, mistakes_of_project
from ml.projects.flight_delay import PROJECT

GATE: dict[str, Any] = {"measure": "training_rows", "at_least": 10, "why": "a reason"}
KIND = "expect_column_values_to_not_be_null"


def with_expectation(**changes: Any) -> ModelProject:
    made: dict[str, Any] = {"kind": KIND, "arguments": {"column": "label"}, "why": "a reason"}
    return replace(PROJECT, expectations=(Expectation(**{**made, **changes}),))


def with_candidate(build: Callable[..., Any], **more: Any) -> ModelProject:
    return replace(PROJECT, candidates=(Candidate(name="own", build=build, **more),))


WRONG: dict[str, tuple[Callable[[], Any], str, str | None]] = {
    "a gate without a reason": (
        lambda: Gate(measure="training_rows", at_least=10),  # type: ignore[call-arg]
        "Gate 'training_rows': it needs the field 'why'",
        None,
    ),
    "a gate with an empty reason": (
        lambda: Gate(**{**GATE, "why": " "}),
        "gate training_rows: give its reason, `why`",
        None,
    ),
    "an unknown measure": (
        lambda: Gate(**{**GATE, "measure": "trainin_rows"}),
        "a gate names an unknown measure 'trainin_rows'",
        "did you mean 'training_rows'?",
    ),
    "a bound as text": (
        lambda: Gate(**{**GATE, "at_least": "10"}),
        "Gate 'training_rows': at_least is '10', not a number or None",
        None,
    ),
    "a bound that is no number": (
        lambda: Gate(**{**GATE, "at_least": float("nan")}),
        "Gate 'training_rows': at_least is nan, not a number or None",
        None,
    ),
    "an unknown time of a gate": (
        lambda: Gate(**{**GATE, "when": "sometimes"}),
        "Gate 'training_rows': when is 'sometimes', not one of When.ALWAYS, When.NO_CHAMPION,",
        None,
    ),
    "an unknown expectation": (
        lambda: with_expectation(kind="expect_column_values_to_not_be_nul"),
        "project flight_delay: there is no expectation 'expect_column_values_to_not_be_nul'",
        "did you mean 'expect_column_values_to_not_be_null'?",
    ),
    "an expectation of an unknown column": (
        lambda: with_expectation(arguments={"column": "carier"}),
        f"project flight_delay: expectation {KIND} names columns that the service lacks: ['car",
        "did you mean 'carrier'?",
    ),
    "an unknown severity": (
        lambda: with_expectation(severity="fatal"),
        f"Expectation '{KIND}': severity is 'fatal', not one of critical, warning",
        None,
    ),
    "another domain's label": (
        lambda: replace(PROJECT, label=BOUGHT_AGAIN),
        "project flight_delay: the label 'bought_again_within_28d' is none of the domain 'flights'",
        None,
    ),
    "an unknown domain": (
        lambda: replace(PROJECT, domain="flight"),
        "project flight_delay: there is no domain 'flight'",
        "did you mean 'flights'?",
    ),
    "gates in a list": (
        lambda: replace(PROJECT, gates=list(PROJECT.gates)),  # type: ignore[arg-type]
        "ModelProject 'flight_delay': gates is a list, not a tuple of a declared Gate",
        "write it as a tuple, in round brackets",
    ),
    "one candidate without a tuple": (
        lambda: replace(PROJECT, candidates=PROJECT.candidates[0]),  # type: ignore[arg-type]
        "ModelProject 'flight_delay': candidates is a Candidate, not a tuple of",
        "write it as a tuple of one: `(value,)`",
    ),
    "a moment for a day": (
        lambda: replace(PROJECT, first_day=datetime(2013, 1, 1)),  # noqa: DTZ001
        "ModelProject 'flight_delay': first_day is datetime(2013, 1, 1, 0, 0), not a date",
        None,
    ),
    "days in the wrong order": (
        lambda: replace(PROJECT, last_day=date(2012, 1, 1)),
        "project flight_delay: its last day lies before its first",
        None,
    ),
    "hours for a cut-off": (
        lambda: replace(PROJECT, cutoff=9),  # type: ignore[arg-type]
        "ModelProject 'flight_delay': cutoff is 9, not a timedelta",
        None,
    ),
    "a cut-off on another day": (
        lambda: replace(PROJECT, cutoff=timedelta(days=2)),
        "project flight_delay: cutoff is a time of day",
        None,
    ),
    "slices of a number": (
        lambda: replace(PROJECT, slices=Slices(columns=("weekday",), min_rows=1)),
        "project flight_delay: slices by ['weekday'], which are no categories",
        None,
    ),
    "a candidate that raises": (
        lambda: with_candidate(lambda *_, **__: 1 // 0),
        "project flight_delay: candidate own raised ZeroDivisionError",
        None,
    ),
    "a candidate that builds nothing": (
        lambda: with_candidate(lambda *_, **__: None),
        "project flight_delay: candidate own builds a NoneType, not a pipeline",
        None,
    ),
    "an option that the learner lacks": (
        lambda: with_candidate(PROJECT.candidates[1].build, options={"max_iters": 3}),
        "project flight_delay: candidate own raised TypeError",
        None,
    ),
    "a candidate of unknown columns": (
        lambda: with_candidate(PROJECT.candidates[1].build, columns=("orign",)),
        "project flight_delay: candidate own names columns that the service lacks: ['orign']",
        "did you mean 'origin'?",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_project_gives_one_sentence_with_its_place(case: str) -> None:
    declare, sentence, remedy = WRONG[case]
    with collecting() as noted:
        made = declare()
        mistakes = [mistake_of(m, "p") for m in noted]
        if isinstance(made, ModelProject):
            mistakes += mistakes_of_project(made, {"flights": domain("flights")})
    assert [m.mistake[: len(sentence)] for m in mistakes] == [sentence]
    assert mistakes[0].file == __file__
    assert mistakes[0].line is not None
    assert remedy is None or mistakes[0].remedy == remedy


@pytest.mark.parametrize(
    "case", ["a gate without a reason", "gates in a list", "an unknown measure"]
)
def test_a_wrong_project_cannot_be_imported(case: str) -> None:
    declare, sentence, _ = WRONG[case]
    with pytest.raises(InvalidProject) as error:
        declare()
    assert str(error.value).startswith(sentence)


def test_the_declared_projects_are_sound() -> None:
    report = check_projects(projects, {d.name: d for d in catalog.domains()})
    assert report.mistakes == []
    assert {"flight_delay", "repeat_purchase"} <= set(report.projects)

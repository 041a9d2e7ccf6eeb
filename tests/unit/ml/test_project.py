"""Projects are validated, discovered without a list, and import no heavy library."""

import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ml.errors import InvalidProject
from ml.project import Candidate, Expectation, Gate, Slices, When
from ml.projects import project, projects
from ml.projects.flight_delay import PROJECT
from ml.training.candidates import boosted_trees

HEAVY = ("pandas", "polars", "sklearn", "mlflow", "great_expectations", "deltalake", "matplotlib")
TREES = Candidate(name="trees", build=boosted_trees)


def test_projects_are_found_by_name() -> None:
    assert project("flight_delay") is PROJECT
    assert PROJECT in projects()


def test_an_unknown_project_is_refused_with_a_list_of_the_known() -> None:
    with pytest.raises(InvalidProject) as caught:
        project("flight_dealy")
    assert "flight_delay" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"candidates": ()}, "no candidate"),
        ({"candidates": (TREES, TREES)}, "same name"),
        ({"candidates": (replace(TREES, columns=("wings",)),)}, "wings"),
        ({"slices": Slices(columns=("weekday",), min_rows=300)}, "weekday"),
        (
            {
                "expectations": (
                    Expectation(kind="expect_x", arguments={"column": "wings"}, why="-"),
                )
            },
            "wings",
        ),
        ({"name": "flight delay"}, "name"),
        ({"cutoff": timedelta(hours=30)}, "cutoff"),
        ({"evaluation_days": 500}, "history"),
        ({"threshold": 1.0}, "threshold"),
        ({"gates": (Gate(measure="training_rows", at_least=1, why="-"),)}, "no gate judges"),
    ],
)
def test_a_contradictory_project_cannot_be_declared(change: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidProject, match=named):
        replace(PROJECT, **change)


def test_the_kind_of_an_expectation_is_one_of_great_expectations() -> None:
    with pytest.raises(InvalidProject, match="expect_"):
        Expectation(kind="column_is_fine", why="-")


@pytest.mark.parametrize(
    ("old", "member"), [("FIRST", When.NO_CHAMPION), ("CONTEST", When.HAS_CHAMPION)]
)
def test_an_old_name_of_when_still_works_and_warns_with_the_new_one(old: str, member: When) -> None:
    with pytest.warns(DeprecationWarning, match=f"is now When.{member.name}"):
        assert getattr(When, old) is member


def test_importing_the_declarations_loads_no_heavy_library() -> None:
    code = (
        "import sys; from ml.projects import projects; import ml.bootstrap, ml.orchestration;"
        "assert projects(); "
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    completed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert completed.stdout.strip() == "[]"


def test_reading_a_bundle_loads_neither_pandas_nor_scikit_learn() -> None:
    code = (
        "import sys, ml.bundle.scoring, treelite.gtil; "
        "print([m for m in ('pandas', 'sklearn', 'mlflow', 'polars') if m in sys.modules])"
    )
    completed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert completed.stdout.strip() == "[]"

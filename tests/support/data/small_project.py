"""The flights project, small enough for a test to train it in a second."""

from dataclasses import replace
from datetime import date
from typing import Any

from ml.project import Candidate, ModelProject
from ml.projects.flight_delay import PROJECT
from ml.training.candidates import boosted_trees, logistic_regression

FAST_TREES = Candidate(name="boosted_trees", build=boosted_trees, options={"max_iter": 15})
FAST_LINEAR = Candidate(
    name="logistic", build=logistic_regression, options={"solver": "newton-cholesky"}
)
DAY = date(2013, 1, 31)
ROWS_A_DAY = 300


def small_project(name: str = "small_delay", **changes: Any) -> ModelProject:
    """Its row gates pass with 300 rows a day from 1 to 31 January."""
    smaller = {"training_rows": 5_000, "evaluation_rows": 1_500}
    gates = tuple(
        replace(g, at_least=smaller[g.measure]) if g.measure in smaller else g
        for g in PROJECT.gates
    )
    settings = {"name": name, "gates": gates, "candidates": (FAST_TREES, FAST_LINEAR), **changes}
    return replace(PROJECT, **settings)

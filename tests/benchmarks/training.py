"""Memory and time of checking data and training trees: what a laptop needs for a large project.

    python -m tests.benchmarks.training [--quick] [--json FILE]

2.7 M rows of 33 numbers and 2 categories, as `extract` writes them. Measured are two steps, each in
a process of its own: `validate` compares the rows with the expectations of the flights, most of
which these rows break; `train` reads, encodes, fits boosted trees, writes pipeline and bundle, and
lets both score the evaluation rows.
"""

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import NoReturn

import numpy as np
import polars as pl

from ml.bootstrap import set_switches
from ml.evaluation.split import window_of
from ml.ports import Examiner
from ml.project import Candidate, ModelProject
from ml.projects.flight_delay import PROJECT
from ml.results import Snapshot, Validation
from ml.steps.train import train
from ml.steps.validate import validate
from ml.training.candidates import boosted_trees
from tests.benchmarks.kit import (
    Bar,
    Cost,
    Line,
    cost_of,
    measure,
    parser_with_run,
    print_cost,
    report,
    run_module,
)

ROWS, QUICK_ROWS, EVALUATION_ROWS = 2_700_000, 100_000, 20_000
MODULE = "tests.benchmarks.training"
BARS = {"validate": 2_000, "train": 3_000}  # step -> MiB at most
TREES = 20  # memory does not grow with them
CATEGORIES = PROJECT.service.categories[:2]
EXPECTED = {column for e in PROJECT.expectations for column in e.columns}
NUMBERS = tuple(sorted(PROJECT.service.numbers, key=lambda n: n not in EXPECTED)[:33])
TEXTS = pl.Series([f"C{n:03d}" for n in range(120)])


def main() -> int:
    """Measure, print the table, write JSON."""
    options = arguments()
    if options.run:
        return run(options)
    rows = QUICK_ROWS if options.quick else ROWS
    with tempfile.TemporaryDirectory(prefix="eventide-bench-") as name:
        write_snapshot(Path(name), rows)
        printed = {step: run_module(MODULE, "--run", name, "--step", step) for step in BARS}
    lines = [
        line
        for step, most_mib in BARS.items()
        for line in lines_of(f"{step} on {rows:,} rows", cost_of(printed[step]), most_mib)
    ]
    report("training", lines, options, ours=printed)
    return 0


def lines_of(what: str, cost: Cost, most_mib: float) -> list[Line]:
    """Memory, and what it costs."""
    bar = Bar(kind="at most", value=most_mib)
    return [
        Line(what=what, unit="MiB at most", ours=cost.peak_mib, bar=bar),
        Line(what=what, unit="CPU s", ours=cost.cpu_s),
    ]


def arguments() -> argparse.Namespace:
    """Of the command line."""
    options = parser_with_run(__doc__)
    options.add_argument("--step", choices=tuple(BARS), help=argparse.SUPPRESS)
    return options.parse_args()


def run(options: argparse.Namespace) -> int:
    """A step in a process of its own, so that its peak is its own."""
    project = a_project()
    snapshot = snapshot_in(project, options.run / options.step)
    if options.step == "validate":
        result, cost = measure(lambda: validated(project, snapshot))
        print_cost(cost, broken=[finding.sentence for finding in result.findings])
    else:
        fit, cost = measure(lambda: train(project, snapshot, "trees"))
        print_cost(cost, bundle_sha256=fit.bundle_sha256)
    return 0


def validated(project: ModelProject, snapshot: Snapshot) -> Validation:
    """The step `validate`; MLflow is asked only after a broken critical expectation."""
    set_switches(os.environ)
    return validate(project, snapshot, examiner=examiner, experiments=unused)


def examiner() -> Examiner:
    """Great Expectations. Importing it belongs to the work."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ml.adapters.great_expectations import GreatExpectations
    return GreatExpectations()


def unused() -> NoReturn:
    """Raise: nothing is to be logged."""
    raise AssertionError("only a broken critical expectation is logged")


def a_project() -> ModelProject:
    """Flights with one candidate, which reads the columns of this benchmark, and expectations that
    stop nothing."""
    trees = Candidate(
        name="trees",
        build=boosted_trees,
        options={"max_iter": TREES},
        columns=(*CATEGORIES, *NUMBERS),
    )
    warnings_only = tuple(replace(e, severity="warning") for e in PROJECT.expectations)
    return replace(PROJECT, candidates=(trees,), expectations=warnings_only)


def write_snapshot(folder: Path, rows: int) -> None:
    """What each step reads: training rows with the columns that are trained on, and evaluation rows
    with all of them for `train`, which gives them to every learner."""
    rng = np.random.default_rng(0)
    training = made_rows(rng, rows, CATEGORIES, NUMBERS)
    service = PROJECT.service
    evaluation = made_rows(rng, EVALUATION_ROWS, service.categories, service.numbers)
    for step in BARS:
        (folder / step).mkdir()
    training.write_parquet(folder / "train" / "training.parquet")
    evaluation.write_parquet(folder / "train" / "evaluation.parquet")
    (folder / "validate" / "training.parquet").hardlink_to(folder / "train" / "training.parquet")
    evaluation.select(training.columns).write_parquet(folder / "validate" / "evaluation.parquet")


def made_rows(
    rng: np.random.Generator, n: int, categories: Sequence[str], numbers: Sequence[str]
) -> pl.DataFrame:
    """Rows as `extract` writes them; each number is missing once in twenty."""
    columns: dict[str, object] = {
        "entity_id": pl.Series(np.arange(n)).cast(pl.String),
        "decision_time_us": np.arange(n),
        **{c: TEXTS[rng.integers(0, len(TEXTS), n)] for c in categories},
    }
    for number in numbers:
        columns[number] = np.where(rng.random(n) < 0.05, np.nan, rng.normal(0, 1, n))
    columns["label"] = pl.Series((rng.random(n) < 0.2).astype(np.int8))
    columns["label_known_at_us"] = np.arange(n)
    return pl.DataFrame(columns)


def snapshot_in(project: ModelProject, folder: Path) -> Snapshot:
    """What `extract` says of the folder."""
    return Snapshot(
        project=project.name,
        window=window_of(project, date(2013, 3, 1)),
        key="benchmark",
        folder=str(folder),
        sha256="00",
        training_rows=ROWS,
        evaluation_rows=EVALUATION_ROWS,
        unusable=(),
        measures={},
        checks=(),
        hold_reasons=(),
    )


if __name__ == "__main__":
    sys.exit(main())

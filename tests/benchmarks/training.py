"""Memory and time of training trees: what a laptop needs for a large project.

    python -m tests.benchmarks.training [--quick] [--json FILE]

2.7 M rows of 33 numbers and 2 categories, as `extract` writes them; measured is the step `train`:
read, encode, fit boosted trees, write pipeline and bundle, and let both score the evaluation rows.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from ml.evaluation.split import window_of
from ml.project import Candidate, ModelProject
from ml.projects.flight_delay import PROJECT
from ml.results import Snapshot
from ml.steps.train import train
from ml.training.candidates import boosted_trees
from tests.benchmarks.kit import (
    Bar,
    Line,
    cost_of,
    measure,
    parser,
    print_cost,
    report,
    run_module,
)

ROWS, QUICK_ROWS, EVALUATION_ROWS = 2_700_000, 100_000, 20_000
TREES = 20  # memory does not grow with them
CATEGORIES = PROJECT.service.categories[:2]
NUMBERS = PROJECT.service.numbers[:33]
TEXTS = pl.Series([f"C{n:03d}" for n in range(120)])


def main() -> int:
    """Measure, print the table, write JSON."""
    options = arguments()
    if options.run:
        return run(options)
    rows = QUICK_ROWS if options.quick else ROWS
    with tempfile.TemporaryDirectory(prefix="eventide-bench-") as name:
        write_snapshot(Path(name), rows)
        printed = run_module("tests.benchmarks.training", "--run", name)
    cost = cost_of(printed)
    lines = [
        Line(
            what=f"trees on {rows:,} rows",
            unit="MiB at most",
            ours=cost.peak_mib,
            bar=Bar(kind="at most", value=3_000),
        ),
        Line(what=f"trees on {rows:,} rows", unit="CPU s", ours=cost.cpu_s),
    ]
    report("training", lines, options, ours=printed)
    return 0


def arguments() -> argparse.Namespace:
    """Of the command line."""
    options = parser(__doc__)
    options.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    return options.parse_args()


def run(options: argparse.Namespace) -> int:
    """The step in a process of its own, so that its peak is its own."""
    project = a_project()
    fit, cost = measure(lambda: train(project, snapshot_in(project, options.run), "trees"))
    print_cost(cost, bundle_sha256=fit.bundle_sha256)
    return 0


def a_project() -> ModelProject:
    """Flights with one candidate, which reads the columns of this benchmark."""
    trees = Candidate(
        name="trees",
        build=boosted_trees,
        options={"max_iter": TREES},
        columns=(*CATEGORIES, *NUMBERS),
    )
    return replace(PROJECT, candidates=(trees,))


def write_snapshot(folder: Path, rows: int) -> None:
    """Training rows with the columns that are trained on, evaluation rows with all of them."""
    rng = np.random.default_rng(0)
    training = made_rows(rng, rows, CATEGORIES, NUMBERS)
    training.write_parquet(folder / "training.parquet")
    service = PROJECT.service
    evaluation = made_rows(rng, EVALUATION_ROWS, service.categories, service.numbers)
    evaluation.write_parquet(folder / "evaluation.parquet")


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

"""Compares the data of a run with the project's expectations."""

from collections.abc import Callable
from pathlib import Path

from ml.errors import DataContractBroken
from ml.ports import Examiner, Experiments, RunContents
from ml.project import ModelProject
from ml.registry_tags import DAY_TAG, DECISION_TAG, REASON_TAG
from ml.results import Snapshot, Validation
from ml.steps.artifacts import once

DOCS = "data_docs"
DOCS_IN_RUN = "data_validation"


def validate(
    project: ModelProject,
    snapshot: Snapshot,
    *,
    examiner: Callable[[], Examiner],
    experiments: Callable[[], Experiments],
) -> Validation:
    """The expectations that the rows of training and evaluation violate; warnings only.

    The pages go into the day's run in `evaluate`; after a broken contract they go into a run of
    their own, marked as failed. (Both arguments are factories: each costs seconds of import.)

    Raises:
        DataContractBroken: a critical expectation does not hold.
    """
    folder = snapshot.file("validation")

    def examine(fresh: Path) -> Validation:
        import polars as pl

        parts = [pl.scan_parquet(snapshot.file(f"{n}.parquet")) for n in ("training", "evaluation")]
        findings = examiner().examine(
            pl.concat(parts).drop("label_known_at_us"), project.expectations, docs=fresh / DOCS
        )
        return Validation(expectations=len(project.expectations), findings=tuple(findings))

    result = once(folder, Validation, examine)
    if result.broken:
        _record_refusal(project, snapshot, result, experiments())
        raise DataContractBroken(
            f"{project.name}, {snapshot.window.day}: {result.broken[0].sentence}"
            + (f"; and {len(result.broken) - 1} more" if len(result.broken) > 1 else ""),
            hint=f"the pages are in {folder / DOCS} and in the day's MLflow run",
        )
    return result


def pages(snapshot: Snapshot) -> dict[str, Path]:
    """The page of results, by its place in a run; the site around it stays in the work folder."""
    (page,) = (snapshot.file("validation") / DOCS).glob("validations/**/*.html")
    return {DOCS_IN_RUN: page}


def _record_refusal(
    project: ModelProject, snapshot: Snapshot, result: Validation, experiments: Experiments
) -> None:
    runs = experiments.begin(
        project.name,
        snapshot.key,
        title=f"{snapshot.window.day} refused",
        tags={DECISION_TAG: "data refused", DAY_TAG: snapshot.window.day},
        learners=(),
    )
    experiments.log(
        runs.day,
        RunContents(
            metrics={"expectations_broken": len(result.broken)},
            tags={REASON_TAG: result.broken[0].sentence},
            artifacts={"snapshot": snapshot.file("manifest.json"), **pages(snapshot)},
        ),
    )
    experiments.end(runs, failed=True)

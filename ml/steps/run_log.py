"""The content of the MLflow runs: of the day, and of each learner."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from ml.ports import DataSet, RunContents
from ml.registry_tags import CHAMPION, LEARNER_TAG, WARNINGS_TAG
from ml.results import Evaluation, Fit, Snapshot, Validation
from ml.steps.train import BUNDLE, PIPELINE
from ml.steps.validate import pages

EVALUATION = "evaluation.json"
PLOTS = "plots"


@dataclass(frozen=True)
class RunLog:
    """The records of a day that are logged; `folder` holds the files made for the log."""

    snapshot: Snapshot
    validation: Validation
    evaluation: Evaluation
    folder: Path


def day_run(run_log: RunLog) -> RunContents:
    """The day's own run: the measures that the gates see, the data and its pages."""
    snapshot, evaluation = run_log.snapshot, run_log.evaluation
    warned = "; ".join(f.sentence for f in run_log.validation.findings)
    return RunContents(
        params={**_params(snapshot), "learner": f"best: {evaluation.best}"},
        metrics={
            **{k: v for k, v in evaluation.measures.items() if v is not None},
            "base_rate": evaluation.base_rate,
            "base_rate_log_loss": evaluation.base_rate_log_loss,
            "expectations_warned": len(run_log.validation.findings),
        },
        tags={WARNINGS_TAG: warned[:4_000]} if warned else {},
        artifacts={
            PLOTS: run_log.folder / PLOTS,
            "": run_log.folder / EVALUATION,
            "snapshot": snapshot.file("manifest.json"),
            **pages(snapshot),
        },
    )


def learner_run(run_log: RunLog, fit: Fit) -> RunContents:
    """A learner's run: its quality, pipeline and bundle, so a held candidate is not lost."""
    qualities = run_log.evaluation.qualities
    metrics: dict[str, float] = msgspec.structs.asdict(qualities[fit.learner])
    metrics.pop("learner")
    metrics |= {"fit_seconds": fit.fit_seconds, "bundle_parity": fit.parity}
    if CHAMPION in qualities:
        # MLflow's page shows two decimals, so only a metric of its own shows the difference.
        metrics["log_loss_minus_champion"] = metrics["log_loss"] - qualities[CHAMPION].log_loss
    metrics["log_loss_minus_base_rate"] = (
        metrics["log_loss"] - run_log.evaluation.base_rate_log_loss
    )
    return RunContents(
        params={**_params(run_log.snapshot), "learner": fit.learner},
        metrics=metrics,
        tags={LEARNER_TAG: fit.learner},
        artifacts={
            PLOTS: run_log.folder / PLOTS,
            "bundle": fit.file(BUNDLE),
            "pipeline": fit.file(PIPELINE),
        },
    )


def data_sets(snapshot: Snapshot) -> list[DataSet]:
    """The two frames; the sha256 of the snapshot identifies both."""
    return [
        DataSet(
            name=f"{snapshot.project}_{context}",
            file=snapshot.file(f"{context}.parquet"),
            sha256=snapshot.sha256,
            context=context,
        )
        for context in ("training", "evaluation")
    ]


def _params(snapshot: Snapshot) -> dict[str, object]:
    """Few, and the same for every run: the compare page plots each of them."""
    return {
        "day": snapshot.window.day,
        "training_rows": snapshot.training_rows,
        "evaluation_rows": snapshot.evaluation_rows,
    }

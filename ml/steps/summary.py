"""Sums up how a run ended."""

from __future__ import annotations

import msgspec

from ml.project import ModelProject
from ml.results import Evaluation, Promotion, RunOutcome, Snapshot, Validation, Verdict


def summarize(
    project: ModelProject,
    snapshot: Snapshot,
    *,
    validation: Validation | None,
    evaluation: Evaluation | None,
    verdict: Verdict | None,
    promotion: Promotion | None,
) -> RunOutcome:
    """Promoted, or held with the reasons. The record of a step that did not run is None."""
    return RunOutcome(
        project=project.name,
        day=snapshot.window.day,
        decision="promoted" if promotion else "held",
        reasons=_reasons(snapshot, evaluation, verdict),
        candidate=evaluation.best if evaluation else None,
        version=promotion.version if promotion else None,
        champion=evaluation.champion if evaluation else None,
        run_id=evaluation.run_id if evaluation else None,
        training_rows=snapshot.training_rows,
        evaluation_rows=snapshot.evaluation_rows,
        metrics=_metrics(evaluation) if evaluation else {},
        warnings=tuple(f.sentence for f in validation.findings) if validation else (),
    )


def _reasons(
    snapshot: Snapshot, evaluation: Evaluation | None, verdict: Verdict | None
) -> tuple[str, ...]:
    """Those of the last step that decided anything."""
    if verdict:
        return verdict.reasons
    return evaluation.hold_reasons if evaluation else snapshot.hold_reasons


def _metrics(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    metrics = {}
    for name, quality in evaluation.qualities.items():
        numbers = msgspec.structs.asdict(quality)
        numbers.pop("learner")
        metrics[name] = numbers
    metrics["base_rate"] = {"log_loss": evaluation.base_rate_log_loss}
    return metrics

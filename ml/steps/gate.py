"""Applies every gate to the measures of the best candidate. Pure."""

from ml.evaluation.gates import check_candidate, reasons
from ml.project import ModelProject
from ml.results import Evaluation, Snapshot, Verdict


def apply_gates(project: ModelProject, snapshot: Snapshot, evaluation: Evaluation) -> Verdict:
    """The verdict: accepted if every gate passes, else held with the reason of each failed gate."""
    has_champion = evaluation.champion is not None
    results = [
        *snapshot.checks,
        *check_candidate(project.gates, evaluation.measures, has_champion=has_champion),
    ]
    hold_reasons = reasons(results)
    return Verdict(
        accepted=not hold_reasons,
        candidate=evaluation.best,
        champion=evaluation.champion,
        checks=tuple(results),
        reasons=tuple(hold_reasons),
    )

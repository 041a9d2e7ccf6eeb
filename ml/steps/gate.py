"""The gate: a pure judgement of what was measured."""

from ml.evaluation.gates import check_candidate, reasons
from ml.project import ModelProject
from ml.results import Evaluation, Snapshot, Verdict


def apply_gates(project: ModelProject, snapshot: Snapshot, evaluation: Evaluation) -> Verdict:
    """Accepted only when every gate passes; each one that does not gives its reason."""
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

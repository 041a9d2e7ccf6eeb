"""The gate: a pure judgement of what was measured."""

from ml.evaluation.gates import check_candidate, reasons
from ml.project import ModelProject
from ml.results import Evaluation, Snapshot, Verdict


def decide(project: ModelProject, snapshot: Snapshot, evaluation: Evaluation) -> Verdict:
    """Accepted only when every gate passes; each one that does not gives its reason."""
    contest = evaluation.champion is not None
    checks = [
        *snapshot.checks,
        *check_candidate(project.gates, evaluation.measures, contest=contest),
    ]
    held = reasons(checks)
    return Verdict(
        accepted=not held,
        candidate=evaluation.best,
        champion=evaluation.champion,
        checks=tuple(checks),
        reasons=tuple(held),
    )

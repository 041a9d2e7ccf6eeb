"""Applies every gate to the measures of the best candidate. Pure."""

from ml.evaluation.gates import GateResult, check_candidate, reasons
from ml.project import ModelProject
from ml.results import Evaluation, Snapshot, Verdict


def apply_gates(project: ModelProject, snapshot: Snapshot, evaluation: Evaluation) -> Verdict:
    """The verdict: accepted if every gate passes, else held with the reason of each failed gate."""
    results = [
        *snapshot.checks,
        *_comparability(evaluation),
        *check_candidate(
            project.gates, evaluation.measures, has_champion=evaluation.has_comparable_champion
        ),
    ]
    hold_reasons = reasons(results)
    return Verdict(
        accepted=not hold_reasons,
        candidate=evaluation.best,
        champion=evaluation.champion,
        checks=tuple(results),
        reasons=tuple(hold_reasons),
    )


def _comparability(evaluation: Evaluation) -> list[GateResult]:
    """Says that a champion was left out of the comparison. It passes: a project that wants a person
    to decide has a gate on `champion_incomparable`."""
    if not evaluation.incomparable:
        return []
    text = (
        f"champion {evaluation.champion} cannot be compared, so the gates of a first model apply:"
        f" {'; '.join(evaluation.incomparable)}"
    )
    return [GateResult(measure="champion_incomparable", passed=True, text=text)]

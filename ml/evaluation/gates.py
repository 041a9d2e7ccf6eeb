"""Gates: bounds on measures. A measure without a value never passes."""

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

from ml.project import MEASURES, Gate, When

Measures = Mapping[str, float | None]


class GateResult(Struct, frozen=True, kw_only=True):
    """The result of one gate. `text` has the number, the bound and, if it failed, the reason."""

    measure: str
    passed: bool
    text: str


def check_data(gates: Sequence[Gate], measures: Measures) -> list[GateResult]:
    """The gates that apply before training."""
    return [_apply(gate, measures) for gate in gates if gate.before_training]


def check_candidate(
    gates: Sequence[Gate], measures: Measures, *, has_champion: bool
) -> list[GateResult]:
    """The gates on a candidate: those against a champion, or those of the first candidate."""
    now = When.HAS_CHAMPION if has_champion else When.NO_CHAMPION
    return [
        _apply(gate, measures)
        for gate in gates
        if not gate.before_training and gate.when in (When.ALWAYS, now)
    ]


def reasons(results: Sequence[GateResult]) -> list[str]:
    """Why a run is held: the texts of the failed gates."""
    return [result.text for result in results if not result.passed]


def _apply(gate: Gate, measures: Measures) -> GateResult:
    value = measures.get(gate.measure)
    if value is None or math.isnan(value):
        text = f"{gate.measure} is not known ({MEASURES[gate.measure].meaning}): {gate.why}"
        return GateResult(measure=gate.measure, passed=False, text=text)
    holds, bound = _bound(gate, value)
    other = measures.get(gate.or_at_most) if gate.or_at_most else None
    if other is not None:
        holds, bound = (
            holds or value <= other,
            f"{bound} or at most {_number(other)} ({gate.or_at_most})",
        )
    text = f"{gate.measure} {_number(value)}, wanted {bound}"
    return GateResult(
        measure=gate.measure, passed=holds, text=text if holds else f"{text}: {gate.why}"
    )


def _bound(gate: Gate, value: float) -> tuple[bool, str]:
    if gate.at_least is not None:
        return value >= gate.at_least, f"at least {gate.at_least:,g}"
    if gate.at_most is not None:
        return value <= gate.at_most, f"at most {gate.at_most:,g}"
    assert gate.below is not None
    return value < gate.below, f"below {gate.below:,g}"


def _number(value: float) -> str:
    """28,250 or 0.01476."""
    return f"{value:,.0f}" if value == int(value) else f"{value:.4g}"

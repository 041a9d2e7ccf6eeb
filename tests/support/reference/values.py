"""Aggregations over facts that were already selected: exact, one value at a time."""

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from features.definitions import Aggregation, Column
from tests.support.generated.formulas import plain_of
from tests.support.reference.facts import Fact

MINUTE_US = 60_000_000
LOWEST, HIGHEST = -(2**63) + 2, 2**63 - 1
"""The whole numbers that a sum takes."""
Value = float | None
"""None for nothing, which is NaN in arrays."""


def us(span: timedelta) -> int:
    """A length of time in microseconds."""
    return (span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds


def aggregate(
    a: Aggregation, columns: Mapping[str, Column], facts: Sequence[Fact], as_of_us: int
) -> Value:
    """The value of an aggregation over these facts, as of a time."""
    if a.operation == "count":
        return float(len(facts))
    if a.operation in ("since_first", "since_last"):
        times = [f.happened_us for f in facts]
        pick = min if a.operation == "since_first" else max
        return (as_of_us - pick(times)) / MINUTE_US if times else None
    name = str(a.column)
    column = columns.get(name)
    if a.operation in ("sum", "mean", "rate"):
        assert column is not None
        return _added(a.operation, column, facts)
    readings = [(f.happened_us, _reading(name, column, f)) for f in facts]
    values = [v for _, v in readings if v is not None]
    if a.operation == "distinct":
        return float(len(set(values)))
    if a.operation == "min":
        return min(map(_number, values), key=_rank, default=None)
    if a.operation == "max":
        return max(map(_number, values), key=_rank, default=None)
    if a.operation == "first":
        return _first(readings)
    if a.operation == "last":
        return _last(readings)
    first, last = _first(readings), _last(readings)
    return None if first is None or last is None else last - first


def _added(operation: str, column: Column, facts: Sequence[Fact]) -> Value:
    """Sums are of whole numbers, those of a column with a scale of its rounded multiples."""
    values = [_computed(column, f) for f in facts]
    units = [_units(v, column.scale) for v in values if v is not None]
    whole = [u for u in units if u is not None and LOWEST <= u <= HIGHEST]
    if len(whole) < len(units):
        return None
    total = float(sum(whole)) if column.scale is None else float(sum(whole)) / column.scale
    if operation == "sum":
        return total
    return total / len(whole) if whole else None


def _computed(column: Column, fact: Fact) -> Any:
    """What the formula gives for a fact; nothing where a check disbelieves what it relies on."""
    if fact.doubted & set(column.reads):
        return None
    return plain_of(column.compute)(fact.says)


def _units(value: Any, scale: int | None) -> int | None:
    """The whole number that is added; None for one that is infinite."""
    scaled = value if scale is None else value * scale
    return round(scaled) if math.isfinite(scaled) else None


def _reading(name: str, column: Column | None, fact: Fact) -> Any:
    """The column or the field of a fact, None where it has no value."""
    if column is None:
        return fact.says[name]
    value = _computed(column, fact)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return None  # the formula leaves 64 bits
    if value is None or column.scale is None or isinstance(value, int):
        return value
    scaled = float(value * column.scale)
    if math.isinf(scaled):
        return None
    return math.copysign(abs(round(scaled)) / column.scale, scaled)


def _first(readings: Sequence[tuple[int, Any]]) -> Value:
    """Of the oldest facts the smallest value, any value before none."""
    oldest = min((t for t, _ in readings), default=None)
    values = [_number(v) for t, v in readings if t == oldest and v is not None]
    return min(values, key=_rank, default=None)


def _last(readings: Sequence[tuple[int, Any]]) -> Value:
    """Of the newest facts the largest value, any value before none."""
    newest = max((t for t, _ in readings), default=None)
    values = [_number(v) for t, v in readings if t == newest and v is not None]
    return max(values, key=_rank, default=None)


def _number(value: Any) -> float:
    return float(value)


def _rank(value: float) -> tuple[float, float]:
    """-0.0 lies below 0.0."""
    return value, math.copysign(1, value)

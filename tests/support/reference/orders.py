"""A slow reference for the views of the made-up orders.

It shares nothing with the product: it is the words of `docs/explanation/features.md` as plain
loops.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from features.definitions import FeatureView, TimeWindow, View
from features.engine.digests import digests
from infra.clock import MINUTE, SECOND
from tests.support.data.orders import DROPPED, PLACED, SHIPPED, Question, Told, us


def reference(view: View, told: Sequence[Told], q: Question) -> list[float]:
    """The features of a view, one value at a time."""
    known = [e for e in told if e.shop == q.shop and e.known < q.t]
    placed = [e for e in known if e.what == PLACED.name]
    if isinstance(view, FeatureView):
        if view.exclude_self:
            placed = [e for e in placed if e.order != q.order]
        return [
            _aggregate(a.operation, a.column, _inside(placed, w, q.t), q.t)
            for a, _, w in view.parts
        ]
    return _OTHERS[view.name](known, placed, q)


def _inside(placed: Sequence[Told], window: TimeWindow, t: int) -> list[Told]:
    edge = us(t) - window.length_us
    edge -= edge % window.hop_us
    return [e for e in placed if us(e.happened) >= edge]


def _field(column: str | None) -> Callable[[Told], float]:
    def kilos(e: Told) -> float:
        return math.nan if math.isnan(e.believed) else float(np.rint(e.believed * 10)) / 10

    fields: dict[str | None, Callable[[Told], float]] = {
        "price": lambda e: e.cents,
        "cents": lambda e: e.cents,
        "large": lambda e: float(e.cents >= 3),
        "weight": lambda e: e.believed,
        "kilos": kilos,
    }
    return fields[column]


def _aggregate(operation: str, column: str | None, events: Sequence[Told], t: int) -> float:
    if operation == "count":
        return len(events)
    if operation == "distinct":
        return len({e.customer for e in events if e.customer is not None})
    if operation == "since_last":
        return _since(max((e.happened for e in events), default=None), t)
    if operation == "since_first":
        return _since(min((e.happened for e in events), default=None), t)
    value = _field(column)
    if operation == "last":
        return _last(events, value)
    if operation == "first":
        return _first(events, value)
    if operation == "change":
        return _last(events, value) - _first(events, value)
    values = [v for v in map(value, events) if not math.isnan(v)]
    if operation == "sum":
        return sum(values)
    if not values:
        return math.nan
    if operation == "min":
        return min(values, key=lambda v: (v, math.copysign(1, v)))
    if operation == "max":
        return max(values, key=lambda v: (v, math.copysign(1, v)))
    if column == "kilos":
        return sum(round(v * 10) for v in values) / 10 / len(values)
    return sum(values) / len(values)


def _since(moment: int | None, t: int) -> float:
    return math.nan if moment is None else (t - moment) * SECOND / MINUTE


def _last(events: Sequence[Told], value: Callable[[Told], float]) -> float:
    newest = max((e.happened for e in events), default=None)
    values = [value(e) for e in events if e.happened == newest]
    return max((v for v in values if not math.isnan(v)), default=math.nan)


def _first(events: Sequence[Told], value: Callable[[Told], float]) -> float:
    oldest = min((e.happened for e in events), default=None)
    values = [value(e) for e in events if e.happened == oldest]
    return min((v for v in values if not math.isnan(v)), default=math.nan)


def _calendar(_: Sequence[Told], placed: Sequence[Told], q: Question) -> list[float]:
    near = [e for e in placed if e.due - e.happened <= 60]
    ten = us(q.due) - us(q.due) % (10 * SECOND)
    spans = [(ten, ten + 10 * SECOND), (us(q.due - 20), us(q.due))]
    found = [
        None if a < us(q.t - 30) else [e for e in near if a <= us(e.due) < b] for a, b in spans
    ]
    counts = [math.nan if f is None else len(f) for f in found]
    means = [sum(e.cents for e in f) / len(f) if f else math.nan for f in found]
    return counts + means


def _first_told(known: Sequence[Told], what: str, order: str) -> list[Told]:
    about = [e for e in known if e.what == what and e.order == order]
    first = min((e.known for e in about), default=None)
    return [e for e in about if e.known == first]


def _overdue(known: Sequence[Told], placed: Sequence[Told], q: Question) -> list[float]:
    closed = {e.order for e in known if e.what != PLACED.name}
    waiting = [q.t - e.due for e in placed if e.order not in closed and q.t - 30 <= e.due < q.t]
    mean = sum(waiting) * SECOND / len(waiting) / MINUTE if waiting else math.nan
    return [len(waiting), mean]


def _previous(known: Sequence[Told], placed: Sequence[Told], q: Question) -> list[float]:
    dropped = {e.order for e in known if e.what == DROPPED.name}
    earlier = [
        e for e in placed if e.order not in dropped and q.due - 30 <= e.due < q.due and q.due >= q.t
    ]
    if not earlier:
        return [0.0, 0.0, math.nan, math.nan, math.nan]
    ids = {e.order: int(digests(np.array([e.order], object))[0]) for e in earlier}
    found = max(earlier, key=lambda e: (e.due, ids[e.order]))
    shipped = _first_told(known, SHIPPED.name, found.order)
    parcels = [math.nan if e.parcels is None else float(e.parcels) for e in shipped]
    told = math.nan if not parcels or any(map(math.isnan, parcels)) else min(parcels)
    late = (q.t - found.due) * SECOND / MINUTE
    return [1.0, float(bool(shipped)), told, found.believed, late]


def _median(known: Sequence[Told], placed: Sequence[Told], q: Question) -> list[float]:
    near = [e for e in known if e.happened >= q.t - 30 and e.what != DROPPED.name]
    cents = sorted(e.cents for e in placed if e.happened >= q.t - 30)
    times = [*sorted(e.happened for e in near), q.t]
    gaps = [b - a for a, b in pairwise(times)]
    middle = len(cents) // 2
    median = (
        math.nan
        if not cents
        else (cents[middle] if len(cents) % 2 else (cents[middle - 1] + cents[middle]) / 2)
    )
    return [median, max(gaps) * SECOND if gaps else math.nan]


_OTHERS: Mapping[str, Callable[[Sequence[Told], Sequence[Told], Question], list[float]]] = {
    "calendar": _calendar,
    "overdue": _overdue,
    "previous": _previous,
    "spread": _median,
}

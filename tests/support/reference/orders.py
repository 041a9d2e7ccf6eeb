"""A slow reference for the views of the synthetic orders.

Plain loops over single events, written from `docs/explanation/features.md` alone. Only the
hash that breaks ties comes from the product.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from features.definitions import FeatureView, TimeWindow, View
from features.engine.digests import digests
from infra.clock import MINUTE, SECOND
from tests.support.data.orders import DROPPED, PLACED, SHIPPED, Delivery, Query, us


def reference(view: View, deliveries: Sequence[Delivery], q: Query) -> list[float]:
    """The features of a view, one value at a time."""
    known = [e for e in deliveries if e.shop == q.shop and e.known < q.t]
    placed = [e for e in known if e.event == PLACED.name]
    if isinstance(view, FeatureView):
        if view.exclude_self:
            placed = [e for e in placed if e.order != q.order]
        return [
            _aggregate(a.operation, a.column, _inside(placed, w, q.t), q.t)
            for a, _, w in view.parts
        ]
    return _OTHERS[view.name](known, placed, q)


def _inside(placed: Sequence[Delivery], window: TimeWindow, t: int) -> list[Delivery]:
    edge = us(t) - window.length_us
    edge -= edge % window.hop_us
    return [e for e in placed if us(e.happened) >= edge]


def _field(column: str | None) -> Callable[[Delivery], float]:
    def kilos(e: Delivery) -> float:
        return (
            math.nan if math.isnan(e.checked_weight) else float(np.rint(e.checked_weight * 10)) / 10
        )

    fields: dict[str | None, Callable[[Delivery], float]] = {
        "price": lambda e: e.cents,
        "cents": lambda e: e.cents,
        "large": lambda e: float(e.cents >= 3),
        "weight": lambda e: e.checked_weight,
        "kilos": kilos,
    }
    return fields[column]


def _aggregate(operation: str, column: str | None, events: Sequence[Delivery], t: int) -> float:
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


def _last(events: Sequence[Delivery], value: Callable[[Delivery], float]) -> float:
    newest = max((e.happened for e in events), default=None)
    values = [value(e) for e in events if e.happened == newest]
    return max((v for v in values if not math.isnan(v)), default=math.nan)


def _first(events: Sequence[Delivery], value: Callable[[Delivery], float]) -> float:
    oldest = min((e.happened for e in events), default=None)
    values = [value(e) for e in events if e.happened == oldest]
    return min((v for v in values if not math.isnan(v)), default=math.nan)


def _calendar(_: Sequence[Delivery], placed: Sequence[Delivery], q: Query) -> list[float]:
    near = [e for e in placed if e.due - e.happened <= 60]
    ten = us(q.due) - us(q.due) % (10 * SECOND)
    spans = [(ten, ten + 10 * SECOND), (us(q.due - 20), us(q.due))]
    spanned = [
        None if a < us(q.t - 30) else [e for e in near if a <= us(e.due) < b] for a, b in spans
    ]
    counts = [math.nan if f is None else len(f) for f in spanned]
    means = [sum(e.cents for e in f) / len(f) if f else math.nan for f in spanned]
    return counts + means


def _first_known(known: Sequence[Delivery], event: str, order: str) -> list[Delivery]:
    about = [e for e in known if e.event == event and e.order == order]
    first = min((e.known for e in about), default=None)
    return [e for e in about if e.known == first]


def _overdue(known: Sequence[Delivery], placed: Sequence[Delivery], q: Query) -> list[float]:
    closed = {e.order for e in known if e.event != PLACED.name}
    waiting = [q.t - e.due for e in placed if e.order not in closed and q.t - 30 <= e.due < q.t]
    mean = sum(waiting) * SECOND / len(waiting) / MINUTE if waiting else math.nan
    return [len(waiting), mean]


def _previous(known: Sequence[Delivery], placed: Sequence[Delivery], q: Query) -> list[float]:
    dropped = {e.order for e in known if e.event == DROPPED.name}
    earlier = [
        e for e in placed if e.order not in dropped and q.due - 30 <= e.due < q.due and q.due >= q.t
    ]
    if not earlier:
        return [0.0, 0.0, math.nan, math.nan, math.nan]
    ids = {e.order: int(digests(np.array([e.order], object))[0]) for e in earlier}
    previous = max(earlier, key=lambda e: (e.due, ids[e.order]))
    shipped = _first_known(known, SHIPPED.name, previous.order)
    parcels = [math.nan if e.parcels is None else float(e.parcels) for e in shipped]
    fewest = math.nan if not parcels or any(map(math.isnan, parcels)) else min(parcels)
    late = (q.t - previous.due) * SECOND / MINUTE
    return [1.0, float(bool(shipped)), fewest, previous.checked_weight, late]


def _median(known: Sequence[Delivery], placed: Sequence[Delivery], q: Query) -> list[float]:
    near = [e for e in known if e.happened >= q.t - 30 and e.event != DROPPED.name]
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


_OTHERS: Mapping[str, Callable[[Sequence[Delivery], Sequence[Delivery], Query], list[float]]] = {
    "calendar": _calendar,
    "overdue": _overdue,
    "previous": _previous,
    "spread": _median,
}

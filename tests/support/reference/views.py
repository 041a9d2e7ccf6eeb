"""The value of every kind of view for one query, written from `docs/explanation/features.md`."""

from collections.abc import Mapping, Sequence
from typing import Any

from features.definitions import (
    CalendarView,
    FeatureView,
    OpenView,
    PreviousView,
    PythonView,
    TimeWindow,
    View,
)
from tests.support.generated.formulas import plain_of
from tests.support.reference.digest import digest
from tests.support.reference.facts import Fact, about
from tests.support.reference.values import MINUTE_US, Value, aggregate, us

Request = Mapping[str, Any]


def view_features(
    view: View, facts: Sequence[Fact], request: Request, as_of_us: int
) -> list[Value]:
    """The features of a view, in its order, for a request with these fields."""
    request = {**request, "as_of_us": as_of_us}
    sources = {event.name for event in view.sources}
    known = [
        f
        for f in about(view.entity, [f for f in facts if f.event in sources], request)
        if f.known_us < as_of_us
    ]
    match view:
        case FeatureView():
            return _windows(view, known, request, as_of_us)
        case CalendarView():
            return _calendar(view, known, request, as_of_us)
        case OpenView():
            return _open(view, known, as_of_us)
        case PreviousView():
            return _previous(view, known, request, as_of_us)
        case PythonView():
            return _python(view, known, as_of_us)


def _windows(view: FeatureView, known: list[Fact], request: Request, as_of_us: int) -> list[Value]:
    own = None if view.exclude_self is None else request[view.exclude_self]
    if own is not None:
        known = [f for f in known if f.says[str(view.exclude_self)] != own]
    columns = {c.name: c for c in view.columns}
    values = []
    for a in view.aggregations:
        assert a.windows or view.ttl is not None
        for window in a.windows or (view.ttl,):
            inside = [f for f in known if f.happened_us >= _edge(window, as_of_us)]
            values.append(aggregate(a, columns, inside, as_of_us))
    return values


def _edge(window: Any, as_of_us: int) -> int:
    """`floor(t - W, hop)`; the edge belongs to the window."""
    if not isinstance(window, TimeWindow):
        return as_of_us - us(window)
    start = as_of_us - us(window.length)
    return start // us(window.hop) * us(window.hop)


def _calendar(
    view: CalendarView, known: list[Fact], request: Request, as_of_us: int
) -> list[Value]:
    placed = [f for f in known if f.says[view.at] is not None]
    near = [f for f in placed if f.says[view.at] - f.happened_us <= us(view.ahead)]
    columns = {c.name: c for c in view.columns}
    values: list[Value] = []
    for a in view.aggregations:
        for span in view.spans:
            start, end = plain_of(span.start)(request), plain_of(span.end)(request)
            if start is None or end is None:
                values.append(None)
                continue
            inside = [f for f in near if start <= f.says[view.at] < end]
            reached = start >= as_of_us - us(view.reach)
            values.append(aggregate(a, columns, inside, as_of_us) if reached else None)
    return values


def _open(view: OpenView, known: list[Fact], as_of_us: int) -> list[Value]:
    closed_by = {event.name for event in view.closed_by}
    waited = []
    for item, due in _places(view, view.due, known, as_of_us).items():
        closings = [f for f in _in_memory(view, known, item, due) if f.event in closed_by]
        if not closings and as_of_us - us(view.reach) <= due < as_of_us:
            waited.append(as_of_us - due)
    mean = sum(waited) / len(waited) / MINUTE_US if waited else None
    values: dict[str, Value] = {"count": float(len(waited)), "mean_minutes": mean}
    return [values[what] for what in view.gives]


def _places(
    view: OpenView | PreviousView, place: str, known: Sequence[Fact], as_of_us: int
) -> dict[Any, int]:
    """The time of each item that is opened, by its first known opening that counts."""
    openings = _openings(view, place, known, as_of_us)
    items = {f.says[view.item] for f in openings}
    name = view.opened.name
    return {i: _first_reported(openings, name, view.item, i, [place])[place] for i in items}


def _openings(
    view: OpenView | PreviousView, place: str, known: Sequence[Fact], as_of_us: int
) -> list[Fact]:
    """Without those that happened more than `ahead` before the item's time, and those whose item's
    time lies more than reach and `ahead` together before the query."""
    return [
        f
        for f in known
        if f.event == view.opened.name
        and f.says[view.item] is not None
        and f.says[place] is not None
        and f.says[place] - f.happened_us <= us(view.ahead)
        and f.says[place] >= as_of_us - us(view.reach + view.ahead)
    ]


def _in_memory(
    view: OpenView | PreviousView, known: Sequence[Fact], item: Any, place: int
) -> list[Fact]:
    """The other events about an item, known at most reach and `ahead` before its time."""
    earliest = place - us(view.reach + view.ahead)
    return [f for f in known if f.says[view.item] == item and f.known_us >= earliest]


def _previous(
    view: PreviousView, known: list[Fact], request: Request, as_of_us: int
) -> list[Value]:
    places = _places(view, view.order, known, as_of_us)
    item = _item_before(view, known, places, request[view.before], as_of_us)
    columns: dict[str, Any] = {}
    kept = dict(view.keeps)
    for event in view.sources:
        fields = kept.get(event, ())
        if item is None:
            own = []
        elif event == view.opened:
            openings = _openings(view, view.order, known, as_of_us)
            own = [f for f in openings if f.says[view.item] == item]
        else:
            others = _in_memory(view, known, item, places[item])
            own = [f for f in others if f.event == event.name]
        columns[event.name] = bool(own)
        reported = _first_reported(own, event.name, view.item, item, fields) if own else {}
        for field in fields:
            columns[f"{event.name}.{field}"] = reported.get(field)
    values = [plain_of(v.compute)(columns, request) for v in view.values]
    return [None if v is None else float(v) for v in values]


def _item_before(
    view: PreviousView,
    known: Sequence[Fact],
    places: Mapping[Any, int],
    before: int | None,
    as_of_us: int,
) -> Any:
    """The item with the latest `order` in reach before `before`, which is not earlier than `t`."""
    if before is None or before < as_of_us:
        return None
    unless = {event.name for event in view.unless}
    candidates = []
    for item, order in places.items():
        gone = [f for f in _in_memory(view, known, item, order) if f.event in unless]
        if not gone and before - us(view.reach) <= order < before:
            candidates.append((order, _tie(item), item))
    return max(candidates)[2] if candidates else None


def _first_reported(
    known: Sequence[Fact], event: str, key: str, item: Any, fields: Sequence[str]
) -> dict[str, Any]:
    """Of several events of one kind about an item the one known first counts. Of two known at one
    moment each field has the smaller value, and none where one of them has none."""
    own = [f for f in known if f.event == event and f.says[key] == item]
    first = min(f.known_us for f in own)
    reported = [f.says for f in own if f.known_us == first]
    return {
        field: None if any(s[field] is None for s in reported) else min(s[field] for s in reported)
        for field in fields
    }


def _tie(item: Any) -> int:
    """By the hash of a text; numbers by themselves."""
    return digest(item) if isinstance(item, str) else int(item)


def _python(view: PythonView, known: list[Fact], as_of_us: int) -> list[Value]:
    near = [f for f in known if f.happened_us >= as_of_us - us(view.ttl)]
    events = {
        event.name: [
            {"event_time_us": f.happened_us, **{n: f.says[n] for n in fields}}
            for f in near
            if f.event == event.name
        ]
        for event, fields in view.keeps
    }
    values = plain_of(view.compute)(events, as_of_us)
    return [None if v is None else float(v) for v in values]

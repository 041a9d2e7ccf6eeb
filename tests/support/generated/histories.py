"""Histories: what was sent when, in which order it arrived, and which queries are made about it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from features.definitions import (
    CalendarView,
    EventType,
    FeatureView,
    OpenView,
    PreviousView,
    PythonView,
    View,
)
from tests.support.generated.cases import START_US, Query, Sent, plain_fields
from tests.support.generated.event_types import DrawnEvent, World, keys_of, values_of

MAX_FUTURE_UNITS = 3
NULL_ITEM = 2
JITTERS = (0, 0, 0, 0, 1, -1)
TWINS = ("event_time_us", "k0", "k1")
"""What an event may have in common with the one before it."""

QUERIED = 12
"""Of so many events every edge is queried."""


@dataclass(kw_only=True)
class Draft:
    """An event that is still to be corrected. A re-sent one shares its `fields`."""

    event: EventType
    fields: dict[str, Any]
    emitted_us: int
    arrives_us: int

    @property
    def known_us(self) -> int:
        """When the event is known: a message says when it was emitted in milliseconds."""
        emitted = self.emitted_us // 1_000 * 1_000
        delay = self.event.known_after_us
        return max(emitted, self.fields["event_time_us"] + delay) if delay else emitted

    def sent(self, partitions: int) -> Sent:
        """The event, in the partition that its key says."""
        key: str = self.fields[self.event.key]
        return Sent(
            event=self.event,
            record=self.event.record(**self.fields),
            emitted_ms=self.emitted_us // 1_000,
            partition=sum(map(ord, key)) % partitions,
        )


@dataclass(frozen=True, kw_only=True)
class Drafting:
    """How the events of one type are drawn.

    `horizon`: how much later a sighting may be a duplicate, in units. `jitters`: microseconds by
    which events miss the unit. `moves`: a copy may be about another entity, item or time ahead.
    """

    drawn: DrawnEvent
    world: World
    horizon: int
    items: int = 8
    jitters: Sequence[int] = JITTERS
    moves: bool = True


def drafts(draw: st.DrawFn, how: Drafting, at_most: int) -> list[Draft]:
    """Up to so many events, some of them sent again."""
    drafted: list[Draft] = []
    spread = draw(st.sampled_from([12, 40, 100]))  # units of time that the events lie in
    for n in range(draw(st.sampled_from([0, at_most // 2, at_most, at_most]))):
        fields = _fields(draw, how, f"{how.drawn.event.name}-{n}", spread)
        if drafted and draw(st.sampled_from([False, False, True])):
            fields |= {name: drafted[-1].fields[name] for name in TWINS}
        emitted = fields["event_time_us"] + how.world.unit_us * draw(
            st.sampled_from(how.world.lateness)
        )
        delay = how.world.unit_us * draw(
            st.sampled_from([0, 0, 0, 3, how.horizon if how.horizon >= 30 else 3])
        )
        first = Draft(
            event=how.drawn.event, fields=fields, emitted_us=emitted, arrives_us=emitted + delay
        )
        drafted += [first, *_sent_again(draw, first, how)]
    return drafted


def _fields(draw: st.DrawFn, how: Drafting, event_id: str, spread: int) -> dict[str, Any]:
    unit = how.world.unit_us
    happened = START_US + unit * draw(st.integers(0, spread)) + draw(st.sampled_from(how.jitters))
    ahead = draw(st.sampled_from([0, 1, 5, 10, 10, 20, 35, 60, 80, -5]))
    fields = {
        "event_id": event_id,
        "event_time_us": happened,
        "k0": draw(st.sampled_from(keys_of("str"))),
        "k1": draw(st.sampled_from(keys_of(how.world.k1_kind))),
        "item": item_of(how.world, draw(st.integers(0, how.items - 1))),
        "at_us": happened + unit * ahead,
    }
    for field in how.drawn.fields:
        fields[field.name] = draw(values_of(field))
    return fields


def _sent_again(draw: st.DrawFn, first: Draft, how: Drafting) -> list[Draft]:
    """The same event once or twice more, as it was or changed; not at all, mostly.

    The spans between the sightings lie about the horizon: a third one is often a duplicate only of
    the second.
    """
    kinds = ["no", "no", "no", "no", "same", "changed", "changed", "replayed", "older"]
    kind = draw(st.sampled_from(kinds))
    if kind == "no":
        return []
    if kind == "older":  # with a time stamp before that of the first sighting
        unit = how.world.unit_us
        emitted = first.emitted_us - unit * draw(st.sampled_from([1, how.horizon, 200]))
        arrives = first.arrives_us + unit * draw(st.sampled_from([0, 1, how.horizon, 90]))
        fields = _corrected(draw, first, how)
        return [
            Draft(event=first.event, fields=fields, emitted_us=emitted, arrives_us=arrives),
            *draw(st.sampled_from([[], [replace(first, arrives_us=arrives + unit)]])),
        ]
    if kind == "replayed":  # with the time of the first sighting, as a source repeats a whole span
        spans = [how.horizon // 2, 40, 90, 200]
        arrives = first.arrives_us + how.world.unit_us * draw(st.sampled_from(spans))
        return [replace(first, arrives_us=arrives)]
    horizon = how.horizon
    chains: list[tuple[int, ...]] = [(0,), (1,), (horizon,), (horizon + 1,), (2 * horizon + 10,)]
    chains += [(horizon, 1), (1, horizon), (2 * horizon // 3,) * 2, (horizon, horizon)]
    chains += [(horizon + 1, horizon), (1, horizon + 1)]
    fields = first.fields
    if kind == "changed":
        fields = _corrected(draw, first, how)
    emitted = first.emitted_us
    sightings = []
    for span in draw(st.sampled_from(chains)):
        emitted += how.world.unit_us * span
        sightings.append(
            Draft(event=first.event, fields=fields, emitted_us=emitted, arrives_us=emitted)
        )
    return sightings


def _corrected(draw: st.DrawFn, first: Draft, how: Drafting) -> dict[str, Any]:
    """The fields of an event that its source sends again with another value, time or entity."""
    fields = dict(first.fields)
    for field in how.drawn.fields[:1]:
        fields[field.name] = draw(values_of(field))
    shifts = [0, 0, 1, how.horizon // 2, how.horizon, 2 * how.horizon + 40]
    shift = draw(st.sampled_from([*shifts, *(-s for s in shifts)]))
    fields["event_time_us"] += how.world.unit_us * shift
    about = draw(st.sampled_from(["", "", "at_us", "k0", "k1", "item"])) if how.moves else ""
    if about:
        fields[about] = draw(st.sampled_from(_others(about, fields, how.world)))
    return fields


def _others(name: str, fields: dict[str, Any], world: World) -> Sequence[Any]:
    """Other values of a field that says what an event is about, some in another partition."""
    if name == "at_us":
        return [fields[name] + world.unit_us * n for n in (-40, -10, 10, 40)]
    if name == "item":
        return [item_of(world, n) for n in range(4)]
    return keys_of("str" if name == "k0" else world.k1_kind)


def newest_at_an_edge(
    draw: st.DrawFn, drafts: list[Draft], views: Sequence[View], world: World, hold_us: int
) -> None:
    """Let the newest event be known when another one lies exactly at the edge of what is kept.

    Both are about one entity, so its value is compacted then. Later events are left out.
    """
    if not drafts or draw(st.sampled_from([False, False, True])):
        return
    kept = draw(st.sampled_from(drafts))
    view = draw(st.sampled_from(views))
    place = "event_time_us" if isinstance(view, FeatureView | PythonView) else "at_us"
    kept.fields[place] = (kept.fields[place] + 500) // 1_000 * 1_000
    reach_us = draw(st.sampled_from(_reaches(view)))
    known_us = kept.fields[place] + reach_us + hold_us
    happened_us = known_us - kept.event.known_after_us
    newest = {
        **kept.fields,
        "event_id": f"{kept.event.name}-newest",
        "event_time_us": happened_us,
        "at_us": happened_us + draw(st.sampled_from([0, 1])) * reach_us,
    }
    if any(isinstance(v, OpenView | PreviousView) for v in views):
        newest["item"] = _another(world)
    drafts[:] = [d for d in drafts if d.known_us <= known_us]
    drafts.append(Draft(event=kept.event, fields=newest, emitted_us=known_us, arrives_us=known_us))


def _another(world: World) -> Any:
    """The id of an item that no other event is about."""
    return "newest" if world.item_kind.startswith("str") else world.first_item + 1_000


def _reaches(view: View) -> list[int]:
    """How far back a state keeps what it places, in whole milliseconds."""
    if isinstance(view, FeatureView):
        lengths = [w.length_us for w in view.windows]
        return [*lengths, max(lengths), view.reach_us // 1_000 * 1_000]
    return [view.reach_us]


def item_of(world: World, number: int) -> Any:
    """An item's id; null for one of them where it may be."""
    if number == NULL_ITEM and world.item_kind.endswith("?"):
        return None
    if world.item_kind.startswith("str"):
        return f"i{number}" if number % 3 else "i" + "\0" * (number // 3)
    return world.first_item + number


def arrived(drafted: Sequence[Draft], partitions: int) -> tuple[Sent, ...]:
    """The events in the order in which they arrive."""
    return tuple(d.sent(partitions) for d in sorted(drafted, key=lambda d: d.arrives_us))


@dataclass(frozen=True, kw_only=True)
class QueryDraw:
    """What queries are drawn from."""

    request: DrawnEvent
    world: World
    sent: Sequence[Sent]
    views: Sequence[View]
    exact_from_us: int

    def query(self, number: int, t: int, fields: dict[str, Any], values: Any) -> Query:
        """A query as of `t` with the keys, the item and the time ahead in `fields`."""
        own = {name: fields[name] for name in ("k0", "k1", "item", "at_us")}
        if own["k1"] is None and not self.world.k1_kind.endswith("?"):
            own["k1"] = keys_of(self.world.k1_kind)[0]
        record = self.request.event.record(event_id=f"q{number}", event_time_us=t, **own, **values)
        return Query(record=record, as_of_us=t)


def queries(draw: st.DrawFn, how: QueryDraw) -> tuple[Query, ...]:
    """Some queries at random, and several about every event, where an answer changes."""
    values = {f.name: draw(values_of(f)) for f in how.request.fields}
    edges = [0, 1, *(n * how.world.unit_us for n in (1, 2, 5, 12)), *_edges(how.views)]
    drawn = _about_events(how, values, draw(st.integers(0, 20)))
    for _ in range(draw(st.integers(1, 5))):
        drawn.append(_at_random(draw, how, values, edges, len(drawn)))
    return tuple(drawn)


def _about_events(how: QueryDraw, values: Any, turn: int) -> list[Query]:
    """About many events: just before and after each is known, and where each no longer counts."""
    drawn: list[Query] = []
    for n, sent in enumerate(_queried_events(how.sent)):
        known = sent.emitted_ms * 1_000
        if sent.event.known_after_us:
            known = max(known, sent.record.event_time_us + sent.event.known_after_us)
        fields = plain_fields(sent.record)
        ends = _ends(how.views, fields)
        end, other = (ends[(turn + n * k) % len(ends)] for k in (1, 3))
        exact = max(known, how.exact_from_us)
        times = [known, known + 1, end - 1, end, other - 1, other, how.exact_from_us]
        times += [exact + n % 3, exact + (n % 7 * how.world.unit_us)]
        times.append(how.exact_from_us - (1 + n % 5) * how.world.unit_us)
        for k, t in enumerate(times):
            near = _places_near(how, fields["at_us"], t)
            ahead = near[(turn + n + k) % len(near)]
            drawn.append(how.query(len(drawn), t, {**fields, "at_us": ahead}, values))
    return drawn


def _queried_events(sent: Sequence[Sent]) -> list[Sent]:
    """Some events: the later sightings of those that were sent again, the newest, then any."""
    seen: set[str] = set()
    again: list[Sent] = []
    others: list[Sent] = []
    for event in sent:
        (again if event.record.event_id in seen else others).append(event)
        seen.add(event.record.event_id)
    chosen = [*again[: QUERIED // 2], *others[-2:]]
    return [*chosen, *others[: QUERIED - len(chosen)]]


def _ends(views: Sequence[View], fields: dict[str, Any]) -> list[int]:
    """The first times as of which an event with these fields no longer counts for a view."""
    happened, at = fields["event_time_us"], fields["at_us"]
    ends: set[int] = set()
    for view in views:
        match view:
            case FeatureView():
                for w in view.windows:
                    hop_start = happened // w.hop_us * w.hop_us
                    ends.add(hop_start + w.hop_us + w.length_us)
            case PythonView():
                ends.add(happened + view.reach_us + 1)
            case CalendarView() | OpenView() | PreviousView():
                ends |= {at + 1, at + view.reach_us + 1, happened + view.lookback_us + 1}
    return sorted(ends)


def _places_near(how: QueryDraw, at: int, t: int) -> list[int]:
    """Times of requests for which a span, or what comes before, begins or ends at an event."""
    unit = how.world.unit_us
    reaches = [v.reach_us for v in how.views if isinstance(v, PreviousView)]
    spans = [0, 1, 5 * unit, 5 * unit + 1, -5 * unit, -5 * unit - 1, 20 * unit, 20 * unit + 1]
    return [
        *(at + span for span in (*spans, *reaches, *(r + 1 for r in reaches))),
        *(t + n * unit for n in (0, 1, 3, 8, 15)),
    ]


def _at_random(
    draw: st.DrawFn, how: QueryDraw, values: Any, edges: Sequence[int], number: int
) -> Query:
    """About an entity that may be unknown, at a time that some event names or any other."""
    about = [(s.emitted_ms * 1_000, plain_fields(s.record)) for s in how.sent]
    nothing = {"item": None, "event_time_us": START_US, "at_us": START_US}
    emitted, event = draw(st.sampled_from(about or [(START_US, nothing)]))
    anchors = [emitted, event["event_time_us"], event["at_us"], how.exact_from_us]
    t = draw(st.sampled_from(anchors)) + draw(st.sampled_from(edges))
    t += draw(st.sampled_from(JITTERS))
    ahead = draw(st.sampled_from([0, 1, 10, 20, 40, -3])) * how.world.unit_us
    fields = {
        "k0": draw(st.sampled_from([*keys_of("str"), "never seen"])),
        "k1": draw(st.sampled_from(keys_of(how.world.k1_kind))),
        "item": item_of(how.world, draw(st.integers(0, 9))),
        "at_us": draw(st.sampled_from([t + ahead, event["at_us"] + 1])),
    }
    return how.query(number, t, fields, values)


def _edges(views: Sequence[View]) -> list[int]:
    """How far a query lies behind an event where an answer changes."""
    edges: set[int] = set()
    for view in views:
        if isinstance(view, FeatureView):
            for window in view.windows:
                # A hop moves the edge by less than a hop.
                edges |= {window.length_us, window.length_us + window.hop_us - 1, window.hop_us}
        else:
            edges |= {view.reach_us, view.lookback_us}
    return sorted(edges)

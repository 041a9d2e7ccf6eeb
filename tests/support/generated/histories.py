"""Histories: what was sent when, in which order it arrived, and what is asked about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from features.definitions import EventType, FeatureView, OpenView, PreviousView, View
from tests.support.generated.cases import START_US, Question, Sent, plain_fields
from tests.support.generated.event_types import DrawnEvent, World, keys_of, values_of
from tests.support.generated.exclusions import Exclusions
from tests.support.reference.values import us

MAX_FUTURE_UNITS = 3
_JITTERS = (0, 0, 0, 0, 1, -1)
TWINS = ("event_time_us", "k0", "k1")
"""What an event may have in common with the one before it."""

QUESTIONED = 12
"""Of so many events every edge is asked about."""


@dataclass(kw_only=True)
class Draft:
    """An event that is still to be corrected. A re-sent one shares its `fields`."""

    event: EventType
    fields: dict[str, Any]
    emitted_us: int
    arrives_us: int

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

    `opens`: each item has one event of this type only. `resends`: how much later an event may be
    sent again, in units.
    """

    drawn: DrawnEvent
    world: World
    excluded: frozenset[Exclusions]
    resends: Sequence[int]
    opens: bool = False
    items: int = 8


def drafts(draw: st.DrawFn, how: Drafting, at_most: int) -> list[Draft]:
    """Up to so many events, some of them sent again."""
    found: list[Draft] = []
    used: set[Any] = set()
    spread = draw(st.sampled_from([12, 40, 100]))  # units of time that the events lie in
    for n in range(draw(st.sampled_from([0, at_most // 2, at_most, at_most]))):
        fields = _fields(draw, how, f"{how.drawn.event.name}-{n}", spread)
        if found and draw(st.sampled_from([False, False, True])):
            fields |= {name: found[-1].fields[name] for name in TWINS}
        if how.opens and fields["item"] in used:
            continue
        used.add(fields["item"])
        emitted = fields["event_time_us"] + how.world.unit_us * draw(
            st.sampled_from(how.world.lateness)
        )
        delay = how.world.unit_us * draw(st.sampled_from([0, 0, 0, 3, 30]))
        first = Draft(
            event=how.drawn.event, fields=fields, emitted_us=emitted, arrives_us=emitted + delay
        )
        found += [first, *_sent_again(draw, first, how)]
    return found


def _fields(draw: st.DrawFn, how: Drafting, event_id: str, spread: int) -> dict[str, Any]:
    unit = how.world.unit_us
    happened = START_US + unit * draw(st.integers(0, spread)) + draw(st.sampled_from(_JITTERS))
    ahead = draw(st.sampled_from([0, 1, 5, 10, 10, 20, 35, 60, 80, -5]))
    fields = {
        "event_id": event_id,
        "event_time_us": happened,
        "k0": draw(st.sampled_from(keys_of("str", how.excluded))),
        "k1": draw(st.sampled_from(keys_of(how.world.k1_kind, how.excluded))),
        "item": item_of(how.world, draw(st.integers(0, how.items - 1))),
        "at_us": happened + unit * ahead,
    }
    for field in how.drawn.fields:
        fields[field.name] = draw(values_of(field, how.excluded))
    return fields


def _sent_again(draw: st.DrawFn, first: Draft, how: Drafting) -> list[Draft]:
    """The same event once more, as it was or with other values; not at all, mostly."""
    kind = draw(st.sampled_from(["no", "no", "no", "no", "same", "changed"]))
    if kind == "no":
        return []
    emitted = first.emitted_us + how.world.unit_us * draw(st.sampled_from(how.resends))
    fields = first.fields
    if kind == "changed" and not how.opens and not first.event.known_after:
        fields = dict(fields)
        for field in how.drawn.fields[:1]:
            fields[field.name] = draw(values_of(field, how.excluded))
    found = [Draft(event=first.event, fields=fields, emitted_us=emitted, arrives_us=emitted)]
    if draw(st.booleans()):  # once more, at most a horizon after the second or the first one
        emitted += how.world.unit_us * draw(st.sampled_from(how.resends))
        found.append(
            Draft(event=first.event, fields=fields, emitted_us=emitted, arrives_us=emitted)
        )
    return found


def item_of(world: World, number: int) -> Any:
    """An item's id."""
    return f"i{number}" if world.item_kind == "str" else world.first_item + number


def keep_within_ahead(found: Sequence[Draft], views: Sequence[View]) -> None:
    """Move the times of items so that no event about one happens longer than `ahead` before."""
    for view in views:
        if not isinstance(view, OpenView | PreviousView):
            continue
        names = {e.name for e in view.sources}
        for opening in found:
            if opening.event != view.opened:
                continue
            times = [
                d.fields["event_time_us"]
                for d in found
                if d.event.name in names and d.fields["item"] == opening.fields["item"]
            ]
            limit = min(times) + us(view.ahead)
            opening.fields["at_us"] = min(opening.fields["at_us"], limit)


def arrived(found: Sequence[Draft], partitions: int) -> tuple[Sent, ...]:
    """The events in the order in which they arrive."""
    return tuple(d.sent(partitions) for d in sorted(found, key=lambda d: d.arrives_us))


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What questions are drawn from."""

    asked: DrawnEvent
    world: World
    sent: Sequence[Sent]
    views: Sequence[View]
    excluded: frozenset[Exclusions]
    exact_from_us: int

    def question(self, number: int, t: int, fields: dict[str, Any], values: Any) -> Question:
        """A question as of `t` with the keys, the item and the time ahead in `fields`."""
        own = {name: fields[name] for name in ("k0", "k1", "item", "at_us")}
        if own["k1"] is None and not self.world.k1_kind.endswith("?"):
            own["k1"] = keys_of(self.world.k1_kind, self.excluded)[0]
        record = self.asked.event.record(event_id=f"q{number}", event_time_us=t, **own, **values)
        return Question(record=record, as_of_us=t)


def questions(draw: st.DrawFn, asking: Asking) -> tuple[Question, ...]:
    """Some questions at random, and several about every event, where an answer changes."""
    values = {f.name: draw(values_of(f, asking.excluded)) for f in asking.asked.fields}
    edges = [0, 1, *(n * asking.world.unit_us for n in (1, 2, 5, 12)), *_edges(asking.views)]
    found = _about_events(asking, values, edges, draw(st.integers(0, 20)))
    for _ in range(draw(st.integers(1, 5))):
        found.append(_at_random(draw, asking, values, edges, len(found)))
    return tuple(found)


def _about_events(asking: Asking, values: Any, edges: Sequence[int], turn: int) -> list[Question]:
    """For each event: just before and after it is known, and where something ends."""
    found: list[Question] = []
    for n, sent in enumerate(asking.sent[:QUESTIONED]):
        known = sent.emitted_ms * 1_000
        if sent.event.known_after_us:
            known = max(known, sent.record.event_time_us + sent.event.known_after_us)
        edge, other = (edges[(turn + n * k) % len(edges)] for k in (1, 3))
        fields = plain_fields(sent.record)
        happened, at = fields["event_time_us"], fields["at_us"]
        times = [known, known + 1, happened + edge, happened + edge + 1, at + other, at + other + 1]
        exact = max(known, asking.exact_from_us)
        times += [exact + n % 3, exact + (n % 7 * asking.world.unit_us)]
        for k, t in enumerate(times):
            ahead = at + 1 if (n + k) % 2 else t + (turn + k) * asking.world.unit_us
            found.append(asking.question(len(found), t, {**fields, "at_us": ahead}, values))
    return found


def _at_random(
    draw: st.DrawFn, asking: Asking, values: Any, edges: Sequence[int], number: int
) -> Question:
    """About an entity that may be unknown, at a time that some event names or any other."""
    about = [(s.emitted_ms * 1_000, plain_fields(s.record)) for s in asking.sent]
    nothing = {"item": None, "event_time_us": START_US, "at_us": START_US}
    emitted, event = draw(st.sampled_from(about or [(START_US, nothing)]))
    anchors = [emitted, event["event_time_us"], event["at_us"], asking.exact_from_us]
    t = draw(st.sampled_from(anchors)) + draw(st.sampled_from(edges))
    t += draw(st.sampled_from(_JITTERS))
    ahead = draw(st.sampled_from([0, 1, 10, 20, 40, -3])) * asking.world.unit_us
    fields = {
        "k0": draw(st.sampled_from([*keys_of("str", asking.excluded), "never seen"])),
        "k1": draw(st.sampled_from(keys_of(asking.world.k1_kind, asking.excluded))),
        "item": item_of(asking.world, draw(st.integers(0, 9))),
        "at_us": draw(st.sampled_from([t + ahead, event["at_us"] + 1])),
    }
    return asking.question(number, t, fields, values)


def _edges(views: Sequence[View]) -> list[int]:
    """How far a question lies behind an event where an answer changes."""
    edges: set[int] = set()
    for view in views:
        if isinstance(view, FeatureView):
            for window in view.windows:
                # A hop moves the edge by less than a hop.
                edges |= {window.length_us, window.length_us + window.hop_us - 1, window.hop_us}
        else:
            edges |= {view.reach_us, view.lookback_us}
    return sorted(edges)

"""Which events count, when they were known, and what they say: the words as plain loops."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from features.definitions import Entity, EventType
from tests.support.generated.formulas import plain_of


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """A record as it lies in its partition. `fields`: plain values, None for null."""

    event: EventType
    fields: Mapping[str, Any]
    emitted_us: int
    partition: int
    offset: int


@dataclass(frozen=True, kw_only=True)
class Fact:
    """An event that counts. `fields` as it came; `says`: without what a check disbelieves.
    `doubted`: the fields that are null only for that, for their record allows no null."""

    event: str
    fields: Mapping[str, Any]
    says: Mapping[str, Any]
    doubted: frozenset[str]
    happened_us: int
    known_us: int
    partition: int
    offset: int


def facts_of(sightings: Iterable[Sighting], *, horizon_us: int, max_future_us: int) -> list[Fact]:
    """The events that are neither refused nor duplicates.

    An event is a duplicate if the sighting of its id before it, in the order of offsets of its
    partition, was known at most a horizon before it. A dropped sighting counts as one too.
    """
    last: dict[tuple[str, int, str], int] = {}
    facts = []
    in_order = sorted(sightings, key=lambda s: (s.event.name, s.partition, s.offset))
    for sighting in in_order:
        if _is_refused(sighting, max_future_us):
            continue
        known = _known_us(sighting)
        place = (sighting.event.name, sighting.partition, sighting.fields["event_id"])
        is_first = place not in last or known - last[place] > horizon_us
        last[place] = known
        if is_first:
            facts.append(_fact(sighting, known))
    return facts


def about(entity: Entity, facts: Sequence[Fact], request: Mapping[str, Any]) -> list[Fact]:
    """The facts about the entity that a request names; none where a key of it is null."""
    keys = [request[key] for key in entity.keys]
    if None in keys:
        return []
    return [f for f in facts if [f.says[key] for key in entity.keys] == keys]


def doubted_fields(event: EventType, says: Mapping[str, Any]) -> frozenset[str]:
    """The fields without a value whose record allows no null."""
    hints = event.record.__annotations__
    return frozenset(
        f for f, v in says.items() if v is None and type(None) not in get_args(hints.get(f))
    )


def _known_us(sighting: Sighting) -> int:
    """When it was emitted, but no sooner than its type's delay after it happened."""
    happened: int = sighting.fields["event_time_us"]
    delay = sighting.event.known_after
    delay_us = (delay.days * 86_400 + delay.seconds) * 1_000_000 + delay.microseconds
    return max(sighting.emitted_us, happened + delay_us) if delay_us else sighting.emitted_us


def _is_refused(sighting: Sighting, max_future_us: int) -> bool:
    if sighting.fields["event_time_us"] > sighting.emitted_us + max_future_us:
        return True
    checks = [c for c in sighting.event.checks if c.on_failure == "dead_letter"]
    return any(_is_broken(c.holds, c.reads, sighting.fields) for c in checks)


def _is_broken(holds: Any, reads: Sequence[str], fields: Mapping[str, Any]) -> bool:
    """A field that is null breaks no check."""
    if any(fields[name] is None for name in reads):
        return False
    return not plain_of(holds)(fields)


def believed(event: EventType, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields without those that a check of the event disbelieves."""
    says = dict(fields)
    for check in event.checks:
        nullified = check.on_failure == "nullify" and check.field is not None
        if nullified and _is_broken(check.holds, check.reads, fields):
            says[str(check.field)] = None
    return says


def _fact(sighting: Sighting, known_us: int) -> Fact:
    says = believed(sighting.event, sighting.fields)
    return Fact(
        event=sighting.event.name,
        fields=sighting.fields,
        says=says,
        doubted=doubted_fields(sighting.event, says),
        happened_us=sighting.fields["event_time_us"],
        known_us=known_us,
        partition=sighting.partition,
        offset=sighting.offset,
    )

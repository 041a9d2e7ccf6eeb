"""Event types that are made up at run time: keys, an item, a time ahead, and values of any type."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import msgspec
from hypothesis import strategies as st

from features.definitions import Check, EventType
from features.definitions.events import CheckAction
from tests.support.generated.formulas import FieldKind, at_most, is_not_text

CALM = (0, 0, 0, 0, 0, 1, 3, -2)
LATE = (*CALM, *CALM, 5, 11, 39, 41, 100)
"""How many units after they happened events are reported."""

SECOND_US, HOUR_US = 1_000_000, 3_600_000_000
_TYPES: Mapping[FieldKind, Any] = {
    "int": int,
    "int?": int | None,
    "float": float,
    "float?": float | None,
    "str": str,
    "str?": str | None,
    "bool": bool,
}
VALUE_KINDS: tuple[FieldKind, ...] = ("int", "int?", "float", "float?", "str", "str?", "bool")
NUMBERS = frozenset(VALUE_KINDS) - {"str", "str?"}

_SMALL = (-3, -2, -1, 0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6)
_INTS = (*_SMALL, 2**31, -(2**31) - 1, 2**45, -(2**45))
_WIDE = (2**53 + 1, -(2**53) - 1, 1234567890123456789, 1234567890123456790, 2**62, -(2**62))
_EDGES = (2**63 - 1, 2**63 - 2, -(2**63), -(2**63) + 1, -(2**63) + 2)
_FIRST_ITEMS = (0, 0, 1234567890123456789, 2**63 - 2_000, -(2**63))
_FLOATS = (0.0, 0.0, 1.5, 1.5, -2.25, 0.14, 0.05, 0.25, 3.0, 4.5, 1e12)
_WILD_FLOATS = (*_FLOATS, -0.0, 1e300, -1e300, 5e-324)
_TEXTS = ("a", "a", "b", "c", "", "é", "a\0")
_ACTIONS: tuple[CheckAction, ...] = ("nullify", "nullify", "dead_letter", "stop")


@dataclass(frozen=True)
class Field:
    """A value field. `wild`: its numbers are extreme, so nothing adds them or tells them apart."""

    name: str
    kind: FieldKind
    wild: bool = False

    @property
    def is_number(self) -> bool:
        """Whether it is no text."""
        return self.kind in NUMBERS


@dataclass(frozen=True)
class DrawnEvent:
    """An event type and its value fields; it also has keys, an item and a time ahead."""

    event: EventType
    fields: tuple[Field, ...]


@dataclass(frozen=True, kw_only=True)
class World:
    """What all event types of a case have in common.

    `unit_us`: the length that all times of the case are multiples of, but for microseconds.
    """

    unit_us: int
    k1_kind: FieldKind
    item_kind: FieldKind
    partitions: int
    lateness: Sequence[int] = (0,)
    first_item: int = 0

    def span(self, units: int) -> timedelta:
        """So many units."""
        return timedelta(microseconds=units * self.unit_us)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Units of seconds or hours, keys and items of texts or numbers."""
    item_kinds: list[FieldKind] = ["str", "int", "str?", "int?"]
    k1_kinds: list[FieldKind] = ["str", "str?", "int", "int?", "bool"]
    return World(
        unit_us=draw(st.sampled_from([SECOND_US, HOUR_US])),
        k1_kind=draw(st.sampled_from(k1_kinds)),
        item_kind=draw(st.sampled_from(item_kinds)),
        partitions=draw(st.sampled_from([1, 2])),
        lateness=draw(st.sampled_from([CALM, LATE])),
        first_item=draw(st.sampled_from(_FIRST_ITEMS)),
    )


@st.composite
def event_types(
    draw: st.DrawFn,
    name: str,
    world: World,
    *,
    checked: bool = True,
    places: bool = True,
    delayed: bool = True,
) -> DrawnEvent:
    """An event type with two to four value fields; `checked`, `places`, `delayed`: it may have
    checks, they may nullify keys and times, and it may be known only some time after it happened.
    """
    fields = tuple(
        Field(f"v{n}", kind, wild)
        for n, (kind, wild) in enumerate(
            draw(
                st.lists(
                    st.tuples(st.sampled_from(VALUE_KINDS), st.sampled_from([False, False, True])),
                    min_size=2,
                    max_size=4,
                )
            )
        )
    )
    checks = [
        draw(_checks(n, fields, places=places)) for n in range(draw(st.sampled_from([0, 0, 1, 2])))
    ]
    if draw(st.sampled_from([False, False, False, True])):
        checks = _chain(fields)
    known_after = draw(st.sampled_from([0, 0, 0, 3])) if delayed else 0
    key = draw(st.sampled_from(["k0", "item"])) if world.item_kind == "str" else "k0"
    event = EventType(
        name=name,
        record=record_type(name, world.k1_kind, world.item_kind, fields),
        key=key,
        partitions=world.partitions,
        known_after=world.span(known_after),
        checks=tuple(c for c in checks if c is not None) if checked else (),
    )
    return DrawnEvent(event, fields)


@cache
def record_type(
    name: str, k1_kind: FieldKind, item_kind: FieldKind, fields: Sequence[Field]
) -> type[msgspec.Struct]:
    """A record with keys, an item, a time ahead and these fields."""
    return msgspec.defstruct(
        name.replace(".", "_").title(),
        [
            ("event_id", str),
            ("event_time_us", int),
            ("k0", str),
            ("k1", _TYPES[k1_kind]),
            ("item", _TYPES[item_kind]),
            ("at_us", int),
            *((f.name, _TYPES[f.kind]) for f in fields),
        ],
        frozen=True,
        kw_only=True,
    )


@st.composite
def _checks(draw: st.DrawFn, n: int, fields: Sequence[Field], *, places: bool) -> Check | None:
    """A check with any action; one that stops a training set holds for all that is drawn."""
    read = draw(st.sampled_from(fields))
    action: CheckAction = draw(st.sampled_from(_ACTIONS))
    if action == "stop":
        if not read.is_number:
            return None
        holds = at_most(read.name, 1e308)
    else:
        holds = at_most(read.name, 3) if read.is_number else is_not_text(read.name, "c")
    nullified = None
    if action == "nullify":
        may = [f.name for f in fields] + (["k0", "k1", "item", "at_us"] if places else [])
        nullified = draw(st.sampled_from(may))
    return Check(
        name=f"check {n}", holds=holds, reads=(read.name,), on_failure=action, field=nullified
    )


def _chain(fields: Sequence[Field]) -> list[Check | None]:
    """A check that nullifies a field because of another, which a second check nullifies."""
    numbers = [f for f in fields if f.is_number]
    if len(numbers) < 3:
        return []
    first, second, third = numbers[:3]
    chained = ((first, second), (second, third))
    return [
        Check(
            name=f"chained {n}",
            holds=at_most(read.name, 2),
            reads=(read.name,),
            on_failure="nullify",
            field=nullified.name,
        )
        for n, (nullified, read) in enumerate(chained)
    ]


def values_of(field: Field) -> st.SearchStrategy[Any]:
    """Values for a field."""
    values: Sequence[Any] = _TEXTS
    if field.kind in ("int", "int?"):
        values = _INTS
        if field.wild:
            values = (*_SMALL, *_WIDE, *_WIDE, *_EDGES)
    elif field.kind in ("float", "float?"):
        values = _WILD_FLOATS if field.wild else _FLOATS
    elif field.kind == "bool":
        values = (False, True)
    return st.sampled_from(
        [*values, None, None, None] if field.kind.endswith("?") else list(values)
    )


def keys_of(kind: FieldKind) -> Sequence[Any]:
    """The keys of entities, few, so that histories meet: among them texts that hold what separates
    the keys of one entity, or end with NUL."""
    if kind in ("int", "int?"):
        values: list[Any] = [1, 1, 1, 1, 2, -7, _WIDE[2], _WIDE[3]]
    elif kind == "bool":
        values = [True, False]
    else:
        values = ["a", "a", "a", "a", "a", "b", "", "é", "a\0", "a\x1f", "a\x1fa", "\x1fa"]
    return [*values, None, None] if kind.endswith("?") else values

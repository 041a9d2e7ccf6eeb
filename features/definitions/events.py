"""Events, what they are about, and what is made of their fields."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.definitions.validation import require
from infra.clock import span_us

Int64Array = NDArray[np.int64]
Float64Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Columns = Mapping[str, NDArray[Any]]
"""Fields of many events: name -> array; all arrays have the same length."""

CheckAction = Literal["blank", "dead_letter", "stop"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """What must hold for an event to be believed, and what happens when it does not.

    blank: `field` counts as null in every feature; the event is stored as it came.
    dead_letter: ingest refuses the event, as if it could not be read.
    stop: no training set is made of a span that has such an event.
    A field that is null breaks no check.
    """

    name: str
    holds: Callable[[Columns], BoolArray]
    reads: tuple[str, ...]
    otherwise: CheckAction
    field: str | None = None  # what is blanked

    def __post_init__(self) -> None:
        require(
            (self.field is not None) == (self.otherwise == "blank"),
            f"check {self.name!r}: a check that blanks names a field, others do not",
        )
        require(bool(self.reads), f"check {self.name!r}: it reads no field")


@dataclass(frozen=True, kw_only=True)
class EventType:
    """One kind of event. `name` is also the name of its topic.

    `known_after`: nobody can know an event sooner than so long after it happened, whatever its
    time stamp says (a value that is published with a delay, for example).
    """

    name: str
    record: type[msgspec.Struct]
    key: str  # the field that is the Kafka key: all events of one key stay in order
    version: int = 1  # goes up with a change that old readers cannot read
    partitions: int = 4
    # Known, not happened: see docs/explanation/decisions/0002-known-time.md
    known_after: timedelta = timedelta(0)
    checks: tuple[Check, ...] = ()

    def __post_init__(self) -> None:
        for needed in ("event_id", "event_time_us", self.key):
            require(needed in self.fields, f"event {self.name}: its record has no field {needed!r}")
        require(self.known_after >= timedelta(0), f"event {self.name}: known before it happened")
        for check in self.checks:
            for field in (*check.reads, *([check.field] if check.field else ())):
                require(
                    field in self.fields,
                    f"event {self.name}, check {check.name!r}: no field {field!r}",
                )

    @property
    def fields(self) -> tuple[str, ...]:
        """The record's fields, in order."""
        return self.record.__struct_fields__

    @property
    def schema(self) -> str:
        """What the `schema` header says, such as `flight.departed/1`."""
        return f"{self.name}/{self.version}"

    @property
    def known_after_us(self) -> int:
        """`known_after` in microseconds."""
        return span_us(self.known_after)

    def checks_that(self, remedy: CheckAction) -> tuple[Check, ...]:
        """The checks with that remedy."""
        return tuple(c for c in self.checks if c.otherwise == remedy)


@dataclass(frozen=True, kw_only=True)
class Entity:
    """What a feature is about; `keys` are the fields that name one, in events and in requests."""

    name: str
    keys: tuple[str, ...]

    def __post_init__(self) -> None:
        require(bool(self.keys), f"entity {self.name}: it has no key")


# Why integers: see docs/explanation/decisions/0003-integer-columns.md
@dataclass(frozen=True, kw_only=True)
class Column:
    """An int64 column made from the fields of an event, in a declared unit.

    Integers, because their sums do not depend on the order of addition: the live and the
    historical value of a feature are then equal bit for bit. A column of fractions, or one that may
    be null, has a `scale`: it is kept as `round(value * scale)` and reported divided by it, and
    where it is NaN the event does not count for it.
    """

    name: str
    compute: Callable[[Columns], NDArray[Any]]
    reads: tuple[str, ...]
    scale: int | None = None

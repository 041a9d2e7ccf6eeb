"""Events and their checks, the entities that they are about, and columns made of their fields."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass
from datetime import timedelta
from typing import Any, Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.definitions.declaration import Declaration
from features.definitions.records import check_record, check_topic_name
from features.definitions.validation import require, require_distinct, require_field
from infra.clock import span_us

Int64Array = NDArray[np.int64]
Float64Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Columns = Mapping[str, NDArray[Any]]
"""Fields of many events: name -> array; all arrays have the same length.

int64 for integers, float64 with NaN for null for numbers that may be null (integers are then exact
up to 2^53), and objects (str or None) for text.
"""

PRINTABLE = "printable"
"""For ids and codes, `Annotated[str, Meta(max_length=10), PRINTABLE]`: an event whose text holds a
control character is refused, for terminals and pages would obey it."""

_LARGEST_SCALE = 10**15  # a float64 holds 15 decimal digits

CheckAction = Literal["nullify", "dead_letter", "stop"]


@dataclass(frozen=True, kw_only=True)
class Check(Declaration):
    """A condition on events, and what happens with an event that violates it.

    `holds` is given the columns of `reads` for many events and returns one bool an event. An event
    with a null in a field of `reads` passes. `on_failure` says what happens with a violating one:

    nullify: `field` counts as null in every feature; the event is stored as it came. A formula that
        reads it is not asked, unless the record of the event allows null there.
    dead_letter: ingest sends the event to the dead letters, as if it could not be decoded.
    stop: a training set over a span with such an event fails (`CheckFailed`).

        Check(
            name="wind speed at most 100 mph",
            holds=lambda events: events["wind_speed_mph"] <= 100,
            reads=("wind_speed_mph",),
            on_failure="nullify",
            field="wind_speed_mph",
        )

    `otherwise` is the old name of `on_failure`, and "blank" the old value of "nullify".
    """

    name: str
    holds: Callable[[Columns], BoolArray]
    reads: tuple[str, ...]
    # Required; it has a default only for as long as `otherwise` is accepted in its place.
    on_failure: CheckAction = None  # type: ignore[assignment]
    field: str | None = None  # what `nullify` makes null
    otherwise: InitVar[str | None] = None

    unchecked = ("on_failure",)  # old names are accepted: see `_current_action`

    def __post_init__(self, otherwise: str | None) -> None:
        action = _current_action(self.on_failure, otherwise)
        object.__setattr__(self, "on_failure", action)
        require(
            isinstance(action, str) and action in get_args(CheckAction),
            f"check {self.name!r}: on_failure is one of {', '.join(get_args(CheckAction))}",
        )
        require(
            (self.field is not None) == (action == "nullify"),
            f"check {self.name!r}: a check that nullifies names a field, others do not",
        )
        require(bool(self.reads), f"check {self.name!r}: it reads no field")


def _current_action(on_failure: str | None, otherwise: str | None) -> str | None:
    """The action under its current name, with a warning if the declaration uses an old one."""
    if otherwise is not None:
        _warn("`Check(otherwise=...)` is now `Check(on_failure=...)`")
    action = on_failure if otherwise is None else otherwise
    if isinstance(action, str) and action == "blank":
        _warn('the check action "blank" is now "nullify"')
        return "nullify"
    return action


def _warn(change: str) -> None:
    # Between are: the metaclass, __init__, __post_init__ and _current_action.
    warnings.warn(
        f"{change}; the old name goes in the next release", DeprecationWarning, stacklevel=6
    )


@dataclass(frozen=True, kw_only=True)
class EventType(Declaration):
    """One kind of event. `name` is also the name of its topic.

    Its record (a frozen msgspec Struct of text and numbers) has at least `event_id`,
    `event_time_us` (when it happened, microseconds since 1970, UTC) and the field `key`.

    `known_after`: an event counts as known no sooner than so long after it happened, whatever the
    timestamp of its record says (for a value that is always published with a delay).

        EventType(name="flight.departed", record=FlightDeparted, key="flight_id")
    """

    name: str
    record: type[msgspec.Struct]
    key: str  # the field that is the Kafka key: the events of one key stay in order
    version: int = 1  # goes up with a change that old readers cannot read
    partitions: int = 4
    # Known time, not event time: see docs/explanation/decisions/0002-known-time.md
    known_after: timedelta = timedelta(0)
    checks: tuple[Check, ...] = ()

    def __post_init__(self) -> None:
        who = f"event {self.name}"
        check_topic_name(self.name, who)
        for field in ("event_id", "event_time_us", self.key):
            require_field(field, self.fields, f"{who}: its record has no field {field!r}")
        check_record(self.record, who, key=self.key)
        require(self.version >= 1, f"{who}: its version is 1 or more")
        require(self.partitions >= 1, f"{who}: it has one partition or more")
        require(self.known_after >= timedelta(0), f"{who}: known before it happened")
        for check in self.checks:
            for field in (*check.reads, *([check.field] if check.field else ())):
                require_field(
                    field, self.fields, f"{who}, check {check.name!r}: no field {field!r}"
                )
            require(
                check.field not in ("event_id", "event_time_us"),
                f"event {self.name}, check {check.name!r}: no event is without {check.field!r};"
                " refuse such an event with on_failure='dead_letter'",
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

    def checks_with(self, action: CheckAction) -> tuple[Check, ...]:
        """The checks whose failure leads to that action."""
        return tuple(c for c in self.checks if c.on_failure == action)


@dataclass(frozen=True, kw_only=True)
class Entity(Declaration):
    """What a feature is about, such as an airport or a customer.

    `keys`: the fields that identify one, in events and in requests. An event with a null in one of
    them is about no entity and counts nowhere.
    """

    name: str
    keys: tuple[str, ...]

    def __post_init__(self) -> None:
        require(bool(self.keys), f"entity {self.name}: it has no key")
        require_distinct(self.keys, f"entity {self.name}: several keys are called")


# Why integers: see docs/explanation/decisions/0003-integer-columns.md
@dataclass(frozen=True, kw_only=True)
class Column(Declaration):
    """A number computed from the fields of an event, for aggregations.

    `compute` is given the columns of `reads` for many events and returns one number an event.
    Sums, means and rates are taken of integers, because their sums do not depend on the order of
    addition: the online and the historical value of a feature are then equal bit for bit. A column
    of fractions, or one that may be null, has a `scale`: it is stored as `round(value * scale)`,
    and features are divided by it again. An event whose value is NaN is left out of the sum and of
    the mean's count. A value that does not fit into 64 bits leaves its sums without a value.

        Column(
            name="precipitation_inches",
            compute=lambda events: events["precipitation_inches"],
            reads=("precipitation_inches",),
            scale=100,  # gauges report hundredths of an inch
        )
    """

    name: str
    compute: Callable[[Columns], NDArray[Any]]
    reads: tuple[str, ...]
    scale: int | None = None

    def __post_init__(self) -> None:
        require(
            self.scale is None or 1 <= self.scale <= _LARGEST_SCALE,
            f"column {self.name!r}: its scale is {self.scale}, and has to be 1 to"
            f" {_LARGEST_SCALE:,}: how many parts of the stored unit make one",
        )

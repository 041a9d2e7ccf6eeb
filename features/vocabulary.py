"""The words to declare with: events, entities, views, services, labels.

They are the words of other feature stores (Entity, FeatureView, Aggregation, time window,
FeatureService). A declaration checks itself when it is made and names its mistake.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.errors import DeclarationError
from infra.clock import span_us

Int64Array = NDArray[np.int64]
Float64Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Columns = Mapping[str, NDArray[Any]]
"""Fields of many events: name -> array; all arrays have the same length."""

Operation = Literal["count", "sum", "mean", "rate", "last", "age"]


@dataclass(frozen=True, kw_only=True)
class EventType:
    """One kind of event. `name` is also the name of its topic."""

    name: str
    record: type[msgspec.Struct]
    key: str  # the field that is the Kafka key: all events of one key stay in order
    version: int = 1  # goes up with a change that old readers cannot read
    partitions: int = 4

    def __post_init__(self) -> None:
        fields = set(self.record.__struct_fields__)
        for needed in ("event_id", "event_time_us", self.key):
            if needed not in fields:
                raise DeclarationError(f"event {self.name}: its record has no field {needed!r}")

    @property
    def fields(self) -> tuple[str, ...]:
        """The record's fields, in order."""
        return self.record.__struct_fields__

    @property
    def schema(self) -> str:
        """What the `schema` header says, such as `flight.departed/1`."""
        return f"{self.name}/{self.version}"


@dataclass(frozen=True, kw_only=True)
class Entity:
    """What a feature is about; `keys` are the fields that name one, in events and in requests."""

    name: str
    keys: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Column:
    """An int64 column made from the fields of an event, in a declared unit.

    Integers, because their sums do not depend on the order of addition: the live and the
    historical value of a feature are then equal bit for bit.
    """

    name: str
    compute: Callable[[Columns], NDArray[Any]]
    reads: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Aggregation:
    """A value over the events of an entity in each of `windows`.

    count: how many. sum, mean, rate: of an integer column (rate is the mean of a 0/1 column).
    last: a numeric field of the newest event. age: minutes since the newest event.
    Empty windows give 0 for count and sum and nothing (NaN) for the others.
    """

    operation: Operation
    column: str | None = None
    windows: tuple[timedelta, ...]

    def __post_init__(self) -> None:
        if not self.windows or min(self.windows) <= timedelta(0):
            raise DeclarationError(f"{self.operation}: give one window or more, each above zero")
        if (self.column is None) != (self.operation in ("count", "age")):
            raise DeclarationError(
                f"{self.operation}: count and age take no column, others need one"
            )

    def feature(self, view: str, window: timedelta) -> str:
        """The feature's name, such as `origin_departures_mean_delay_3h`."""
        column = f"_{self.column}" if self.column else ""
        return f"{view}_{self.operation}{column}_{window_name(window)}"


@dataclass(frozen=True, kw_only=True)
class FeatureView:
    """Aggregations over the events of one type, by entity.

    The value for entity `e` at time `t` and window `W` uses exactly the events of `e` with
    `known_at < t` and `event_time >= t - W`.
    """

    name: str
    source: EventType
    entity: Entity
    aggregations: tuple[Aggregation, ...]
    columns: tuple[Column, ...] = ()

    def __post_init__(self) -> None:
        known = {c.name for c in self.columns}
        for key in self.entity.keys:
            self._require(key in self.source.fields, f"its event has no key field {key!r}")
        for column in self.columns:
            for name in column.reads:
                self._require(name in self.source.fields, f"its event has no field {name!r}")
        for a in self.aggregations:
            if a.operation == "last":
                self._require(
                    a.column in self.source.fields, f"last of an unknown field {a.column!r}"
                )
            elif a.column is not None:
                self._require(
                    a.column in known, f"{a.operation} of an undeclared column {a.column!r}"
                )
        self._require(len(set(self.features)) == len(self.features), "two features of one name")

    @property
    def features(self) -> tuple[str, ...]:
        """Names of all features, in the order of their values."""
        return tuple(a.feature(self.name, w) for a in self.aggregations for w in a.windows)

    @property
    def windows_us(self) -> tuple[int, ...]:
        """All window lengths in microseconds, shortest first."""
        return tuple(sorted({span_us(w) for a in self.aggregations for w in a.windows}))

    def _require(self, holds: bool, mistake: str) -> None:
        if not holds:
            raise DeclarationError(f"view {self.name}: {mistake}")


@dataclass(frozen=True, kw_only=True)
class RequestColumn:
    """A feature that the request itself carries. Categories are text, everything else float64."""

    name: str
    compute: Callable[[Columns], NDArray[Any]]
    reads: tuple[str, ...]
    category: bool = False


@dataclass(frozen=True, kw_only=True)
class Decision:
    """When a forecast is made, and about what: live by a request, in history by an event.

    `at` gives the decision time in microseconds from the fields of `source`; `source` has every
    field that the service reads of a request.
    """

    request: EventType
    source: EventType
    entity_id: str
    at: Callable[[Columns], Int64Array]


@dataclass(frozen=True, kw_only=True)
class FeatureService:
    """The features that a model is given, in the model's column order: categories first, then
    the request's numbers, then each view's features."""

    name: str
    decision: Decision
    request_columns: tuple[RequestColumn, ...]
    views: tuple[FeatureView, ...]

    def __post_init__(self) -> None:
        readable = set(self.decision.request.fields) & set(self.decision.source.fields)
        needed = {f for c in self.request_columns for f in c.reads}
        needed |= {k for v in self.views for k in v.entity.keys} | {self.decision.entity_id}
        if missing := sorted(needed - readable):
            raise DeclarationError(f"service {self.name}: requests and history lack {missing}")

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the text columns."""
        return tuple(c.name for c in self.request_columns if c.category)

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of the float64 columns, in order."""
        own = tuple(c.name for c in self.request_columns if not c.category)
        return own + tuple(f for v in self.views for f in v.features)


@dataclass(frozen=True, kw_only=True)
class Label:
    """What really happened: 0 or 1 for a decision, from an event that comes later.

    The last weeks of a training set would hold too many of whatever is known early. So a decision
    enters a training set only when it is `max_wait` old at the cut-off, labelled or not by then.

    Without `within` an event says which: the first one known of the decision's entity, by `value`.
    With it the label says whether anything happens at all: 1 if an event for which `value` holds
    happens after the decision, at most `within` later, and is told before the decision is
    `max_wait` old; else 0. Neither is known before then, whatever has happened by then, and neither
    changes afterwards. `max_wait` is then `within` and what a source may be late.
    """

    name: str
    source: EventType
    entity_id: str
    value: Callable[[Columns], BoolArray]
    reads: tuple[str, ...]
    max_wait: timedelta
    within: timedelta | None = None

    def __post_init__(self) -> None:
        if self.within is not None and not timedelta(0) < self.within <= self.max_wait:
            raise DeclarationError(
                f"label {self.name}: `within` lies above zero and is no longer than `max_wait`"
            )


@dataclass(frozen=True, kw_only=True)
class Domain:
    """All that is declared about one field of work. Each folder in `features/catalog` has one."""

    name: str
    events: tuple[EventType, ...]
    views: tuple[FeatureView, ...]
    services: tuple[FeatureService, ...]
    labels: tuple[Label, ...]
    predictions_topic: str
    by_name: Mapping[str, EventType] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", MappingProxyType({e.name: e for e in self.events}))


def window_name(window: timedelta) -> str:
    """`1h`, `30m`, `7d`: the largest unit that divides the window."""
    seconds = int(window.total_seconds())
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds % length == 0 and (unit != "d" or seconds > length):
            return f"{seconds // length}{unit}"
    return f"{seconds}s"

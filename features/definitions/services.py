"""What a model gets and what it predicts: request columns, services, labels, domains."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from features.definitions.events import BoolArray, Columns, EventType, Int64Array
from features.definitions.validation import require
from features.definitions.views import View


@dataclass(frozen=True, kw_only=True)
class RequestColumn:
    """A feature that comes from the request itself.

    `compute` is given the request's columns of `reads` and returns one value for each request: text
    for a `category` (None becomes ""), else a number (NaN for null).
    """

    name: str
    compute: Callable[[Columns], NDArray[Any]]
    reads: tuple[str, ...]
    category: bool = False


@dataclass(frozen=True, kw_only=True)
class Decision:
    """When a prediction is made, and about what.

    Online a `request` event asks for it, and its event time is the decision time. For training sets
    the decisions of the past follow from the events of `source`: `at` computes the decision time
    (microseconds since 1970) from its columns. So `source` has every field that the service reads
    of a request. `entity_id`: the field that says what the prediction is about.

        Decision(
            request=REQUESTED,
            source=SCHEDULED,
            entity_id="flight_id",
            at=lambda events: events["scheduled_departure_us"] - 60 * MINUTE,
        )
    """

    request: EventType
    source: EventType
    entity_id: str
    at: Callable[[Columns], Int64Array]

    @property
    def checked_as(self) -> tuple[EventType, ...]:
        """The event types whose checks with `nullify` count for a request, one after the other,
        online and in history."""
        return tuple(dict.fromkeys((self.source, self.request)))


@dataclass(frozen=True, kw_only=True)
class FeatureService:
    """The feature vector of a model, in this order: the request's categories, the request's
    numbers, the features of each view.

    `refused`: fields that no request column may read, because they leak the label (a field that is
    null only for flights that are cancelled later, for example).
    """

    name: str
    decision: Decision
    request_columns: tuple[RequestColumn, ...]
    views: tuple[View, ...]
    refused: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        readable = set(self.decision.request.fields) & set(self.decision.source.fields)
        needed = {f for c in self.request_columns for f in c.reads} | {self.decision.entity_id}
        needed |= {f for v in self.views for f in (*v.entity.keys, *v.request_fields)}
        missing = sorted(needed - readable)
        require(not missing, f"service {self.name}: requests and history lack {missing}")
        for check in (c for e in self.decision.checked_as for c in e.checks_with("nullify")):
            lacking = sorted(set(check.reads) - readable)
            require(
                check.field not in needed or not lacking,
                f"service {self.name}: the check {check.name!r} nullifies {check.field!r}, and"
                f" requests or history lack {lacking}, which it reads",
            )
        for column in self.request_columns:
            leaks = sorted(set(column.reads) & set(self.refused))
            require(
                not leaks,
                f"service {self.name}: column {column.name!r} reads {leaks}, which are refused",
            )

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the text columns, in order."""
        return tuple(c.name for c in self.request_columns if c.category)

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of the float64 columns, in order."""
        own = tuple(c.name for c in self.request_columns if not c.category)
        return own + tuple(f for v in self.views for f in v.features)


@dataclass(frozen=True, kw_only=True)
class Label:
    """The truth about a decision, 0 or 1, from an event that comes later.

    `value` is given the columns of `reads` of the `source` events and returns one bool an event.
    `entity_id`: the field of `source` that matches the decision's `entity_id`.

    Without `within` an event brings the label: the `value` of the first known event about the
    decision's entity. A decision without such an event has no label.

        Label(
            name="late15",
            source=LANDED,
            entity_id="flight_id",
            value=lambda events: events["arrival_delay_minutes"] >= 15,
            reads=("arrival_delay_minutes",),
            max_wait=timedelta(hours=24),
        )

    With `within` the label says whether something happens: 1 if an event for which `value` holds
    happens after the decision, at most `within` later, and is known before the decision is
    `max_wait` old; else 0. It is known only then, and never changes. `max_wait` is then `within`
    plus how late a source may be.

    A decision enters a training set only if it is `max_wait` old at the cut-off, labelled or not:
    otherwise the last weeks of a training set would have too many of the labels that are known
    early.
    """

    name: str
    source: EventType
    entity_id: str
    value: Callable[[Columns], BoolArray]
    reads: tuple[str, ...]
    max_wait: timedelta
    within: timedelta | None = None

    def __post_init__(self) -> None:
        require(
            self.within is None or timedelta(0) < self.within <= self.max_wait,
            f"label {self.name}: `within` is longer than 0 and no longer than `max_wait`",
        )


@dataclass(frozen=True, kw_only=True)
class Domain:
    """Everything that is declared about one subject: its events, views, services and labels.

    Each folder in `features/catalog` has one, as `DOMAIN`. `predictions_topic`: where predictions
    are published. `by_name`: the event types by their names.
    """

    name: str
    events: tuple[EventType, ...]
    views: tuple[View, ...]
    services: tuple[FeatureService, ...]
    labels: tuple[Label, ...]
    predictions_topic: str
    by_name: Mapping[str, EventType] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", MappingProxyType({e.name: e for e in self.events}))

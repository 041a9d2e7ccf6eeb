"""What a model gets and what it predicts: request columns, services, labels, domains."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from features.definitions.declaration import Declaration
from features.definitions.events import BoolArray, Columns, EventType, Int64Array
from features.definitions.records import check_topic_name
from features.definitions.validation import near, require, require_distinct, require_field
from features.definitions.views import View

RESERVED_COLUMNS = frozenset({"entity_id", "decision_time_us", "label", "label_known_at_us"})
"""Columns of a training set beside those of its service."""


@dataclass(frozen=True, kw_only=True)
class RequestColumn(Declaration):
    """A feature that comes from the request itself.

    `compute` is given the request's columns of `reads` and returns one value for each request: text
    for a `category` (None becomes ""), else a number (NaN for null).
    """

    name: str
    compute: Callable[[Columns], NDArray[Any]]
    reads: tuple[str, ...]
    category: bool = False


@dataclass(frozen=True, kw_only=True)
class Decision(Declaration):
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

    def __post_init__(self) -> None:
        for event in (self.request, self.source):
            mistake = f"decision: {event.name} has no field {self.entity_id!r}"
            require_field(self.entity_id, event.fields, mistake)

    @property
    def checked_as(self) -> tuple[EventType, ...]:
        """The event types whose checks with `nullify` count for a request, one after the other,
        online and in history."""
        return tuple(dict.fromkeys((self.source, self.request)))


@dataclass(frozen=True, kw_only=True)
class FeatureService(Declaration):
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
        self._check_names()
        readable = set(self.decision.request.fields) & set(self.decision.source.fields)
        needed = {f for c in self.request_columns for f in c.reads} | {self.decision.entity_id}
        needed |= {f for v in self.views for f in (*v.entity.keys, *v.request_fields)}
        missing = sorted(needed - readable)
        require(
            not missing,
            f"service {self.name}: requests and history lack {missing}",
            hint=near(missing[0], readable) if missing else None,
        )
        for name in self.refused:
            mistake = f"service {self.name}: it refuses a field {name!r} that requests lack"
            require_field(name, self.decision.request.fields, mistake)
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

    def _check_names(self) -> None:
        """Every column of a training set has a name of its own."""
        columns = (*self.categories, *self.numbers)
        require_distinct(columns, f"service {self.name}: several columns are called")
        reserved = sorted(set(map(str.casefold, columns)) & RESERVED_COLUMNS)
        require(
            not reserved,
            f"service {self.name}: {reserved} are columns that every training set has",
            hint="give the request column another name",
        )


@dataclass(frozen=True, kw_only=True)
class Label(Declaration):
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
        for name in (self.entity_id, *self.reads):
            mistake = f"label {self.name}: {self.source.name} has no field {name!r}"
            require_field(name, self.source.fields, mistake)
        require(self.max_wait > timedelta(0), f"label {self.name}: `max_wait` is longer than 0")
        require(
            self.within is None or timedelta(0) < self.within <= self.max_wait,
            f"label {self.name}: `within` is longer than 0 and no longer than `max_wait`",
        )


@dataclass(frozen=True, kw_only=True)
class Domain(Declaration):
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
        who = f"domain {self.name}"
        check_topic_name(self.predictions_topic, who)
        topics = (*(e.name for e in self.events), self.predictions_topic)
        require_distinct(topics, f"{who}: several topics are called")
        for kind in ("views", "services", "labels"):
            names = [d.name for d in getattr(self, kind)]
            require_distinct(names, f"{who}: several {kind} are called")
        self._check_events(who)
        for service in self.services:
            missing = sorted(v.name for v in service.views if v not in self.views)
            require(
                not missing,
                f"{who}: service {service.name} uses views that the domain does not list, so ingest"
                f" would not keep them: {missing}",
                hint="add them to `views` of the domain",
            )

    def _check_events(self, who: str) -> None:
        """Ingest reads the listed events only: without the others a feature would stay empty."""
        needed = [(f"view {v.name}", e) for v in self.views for e in v.sources]
        for service in self.services:
            decision = service.decision
            needed += [(f"service {service.name}", e) for e in (decision.request, decision.source)]
        needed += [(f"label {label.name}", label.source) for label in self.labels]
        for user, event in dict.fromkeys(needed):
            require(
                event in self.events,
                f"{who}: {user} needs the event {event.name}, which the domain does not list, so"
                " ingest would not read it",
                hint="add it to `events` of the domain",
            )

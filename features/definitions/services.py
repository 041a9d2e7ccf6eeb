"""What a model gets and what it predicts: request columns, services, labels, domains."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Literal

from numpy.typing import NDArray

from features.definitions.declaration import Declaration, is_broken
from features.definitions.events import BoolArray, Columns, EventType, Int64Array
from features.definitions.field_types import may_be_null, value_type
from features.definitions.label_trial import untrue_value
from features.definitions.lifecycle_views import AS_OF
from features.definitions.records import check_topic_name
from features.definitions.validation import near, require, require_distinct, require_field
from features.definitions.views import View

RESERVED_COLUMNS = ("entity_id", "decision_time_us", "label", "label_known_at_us")
"""Columns of every training set beside those of the service."""

OWN_FIELDS = ("event_id", "event_time_us")
"""Fields that a request and the event of the same decision in history do not share."""


@dataclass(frozen=True, kw_only=True)
class RequestColumn(Declaration):
    """A feature that comes from the request itself.

    `compute` is given the request's columns of `reads` and returns one value for each request: text
    for a `category` (None becomes ""), else a number (NaN for null). The decision time is the
    column `as_of_us`, live as in history; `event_time_us` cannot be read, since it is the decision
    time of a request, and another time in the event that history has in its place.
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

    An event for which `at` fails or gives null makes no decision; failures are counted. Neither
    does one that became known after its decision time, because nobody could have asked.
    `reported_within`: how much later it may become known all the same, for decisions about
    something that has just happened, which its source reports a moment later.

    `of_several` says which decisions count when several events are about one entity:

    each: every one, such as one for each day of a customer. Events with one decision time make one
        decision, from the event with the lowest partition and offset.
    current: an entity is decided once. An event is replaced by the next one about the entity that
        becomes known by its decision time; of those that were not replaced the earliest decision
        counts. So a flight that was moved is decided at its new time, unless the decision had been
        made.

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
    reported_within: timedelta = timedelta(0)
    of_several: Literal["each", "current"] = "each"

    def __post_init__(self) -> None:
        for event in (self.request, self.source):
            mistake = f"a decision about {self.entity_id!r}: {event.name} has no such field"
            require_field(self.entity_id, event.fields, mistake)
        require(
            self.reported_within >= timedelta(0),
            f"a decision of {self.source.name}: `reported_within` is not negative",
        )

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
        self._require_distinct_names()
        readable = set(self.decision.request.fields) & set(self.decision.source.fields)
        needed = {*self._read_fields, self.decision.entity_id} - {AS_OF}
        missing = sorted(needed - readable)
        require(
            not missing,
            f"service {self.name}: requests and history lack {missing}",
            hint=near(missing[0], readable) if missing else None,
        )
        for name in sorted(needed & readable):
            self._require_same_type(name)
        self._require_shared_fields()
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

    def _require_same_type(self, field: str) -> None:
        """History looks up and computes with the field of `source` what a request has live."""
        request, source = self.decision.request, self.decision.source
        types = [value_type(event.record, field) for event in (request, source)]
        require(
            types[0] == types[1],
            f"service {self.name}: {field!r} is {types[0]} in {request.name} and {types[1]} in"
            f" {source.name}: give both one type",
        )
        # Formulas are given integers where null is no value, and floats where it is.
        nulls = [may_be_null(event.record, field) for event in (request, source)]
        computed = {f for c in self.request_columns for f in c.reads}
        computed |= {f for v in self.views for f in v.request_fields}
        require(
            field not in computed or types[0] == "text" or nulls[0] == nulls[1],
            f"service {self.name}: {field!r} may be null in only one of {request.name} and"
            f" {source.name}: give both one type",
        )

    @property
    def _read_fields(self) -> set[str]:
        """What request columns and views read of a request."""
        of_views = {f for v in self.views for f in (*v.entity.keys, *v.request_fields)}
        return of_views | {f for c in self.request_columns for f in c.reads}

    def _require_shared_fields(self) -> None:
        """No field that means one thing in a request and another in history."""
        decision = self.decision
        unshared = OWN_FIELDS[1:] if decision.request == decision.source else OWN_FIELDS
        own = sorted(self._read_fields & set(unshared))
        require(
            not own,
            f"service {self.name}: {own} of a request and of {decision.source.name} differ; read"
            f" {AS_OF!r}, the decision time",
        )
        fields = {*decision.request.fields, *decision.source.fields}
        require(
            AS_OF not in fields,
            f"service {self.name}: {AS_OF!r} is the decision time, and no field of an event",
        )

    def _require_distinct_names(self) -> None:
        """One column, one name: in the vector, and in a training set."""
        views = [v.name for v in self.views]
        for name in views:
            require(views.count(name) == 1, f"service {self.name}: two views are called {name!r}")
        columns = [c.name for c in self.request_columns]
        names = columns + [f for v in self.views for f in v.features]
        for name in dict.fromkeys(names):
            require(names.count(name) == 1, f"service {self.name}: two columns are called {name!r}")
            require(
                name not in RESERVED_COLUMNS,
                f"service {self.name}: a training set has a column {name!r} of its own",
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
class Label(Declaration):
    """The truth about a decision, 0 or 1, from an event that comes later.

    `value` is given the columns of `reads` of the `source` events and returns one bool an event.
    `entity_id`: the field of `source` that matches the decision's `entity_id`.

    Only an event that comes after the decision at `t` can be its label: it happened after `t`, and
    was not known before `t`. An event with null in a field of `reads`, or with a value that a check
    nullifies, says nothing yet. Neither does one for which `value` fails, which is counted, or
    gives null.

    Without `within` an event brings the label: the `value` of the first known event about the
    decision's entity that comes after it. A decision without such an event has no label.

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
        require(bool(self.reads), f"label {self.name}: it reads no field")
        require(self.max_wait >= timedelta(0), f"label {self.name}: `max_wait` is not negative")
        require(
            self.within is None or timedelta(0) < self.within <= self.max_wait,
            f"label {self.name}: `within` is longer than 0 and no longer than `max_wait`",
        )
        other = untrue_value(self.value, self.source.record, self.reads)
        require(
            other is None,
            f"label {self.name}: its value is {other!r}, and a label is 0 or 1; let `value`"
            ' compare, such as `events["delay_minutes"] >= 15`',
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
        features = (feature for view in self.views for feature in view.features)
        if not is_broken(self.services):  # a service may have said the same
            require_distinct(features, f"{who}: features of several views are called")
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

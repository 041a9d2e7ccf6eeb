"""Views: features computed from the events of an entity."""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, partial

from features.definitions.aggregations import Aggregation, TimeWindow
from features.definitions.declaration import Declaration
from features.definitions.events import Column, Columns, Entity, EventType, Int64Array
from features.definitions.lifecycle_views import (
    AS_OF,
    BoundedReach,
    OpenView,
    PreviousView,
    check_limits,
)
from features.definitions.operations import OPERATIONS, SumOperation, listed
from features.definitions.records import check_time
from features.definitions.validation import near, require, require_distinct, require_field
from infra.clock import span_us


@dataclass(frozen=True, kw_only=True)
class FeatureView(Declaration):
    """Aggregations over the events of one type, for each entity.

    The feature of entity `e` as of time `t` over a window `W` uses exactly the events of `e` with
    `known_at < t` and `event_time >= floor(t - W, hop)`, online as in a training set. There is one
    feature for each aggregation and window, named like `origin_departures_mean_delay_3h`.

        FeatureView(
            name="origin_departures",
            source=DEPARTED,
            entity=Entity(name="origin", keys=("origin",)),
            columns=(DEPARTURE_DELAY,),  # a `Column` named "delay"
            aggregations=(
                Aggregation(operation="count", windows=(timedelta(hours=1), timedelta(hours=3))),
                Aggregation(operation="mean", column="delay", windows=(timedelta(hours=3),)),
            ),
        )

    `columns`: the declared columns that aggregations name; fields of the event need no declaration.
    `ttl`: the window of aggregations without windows; no window may be longer, and older events are
    dropped from the online state. `exclude_self`: a field of both event and request; events with
    the request's value in it do not count, so that an item's own events do not enter its features.

    An event with a null in a key of the entity counts for no entity. An entity without events has
    features of an empty window (see `Aggregation`).
    """

    name: str
    source: EventType
    entity: Entity
    aggregations: tuple[Aggregation, ...]
    columns: tuple[Column, ...] = ()
    ttl: timedelta | None = None
    exclude_self: str | None = None

    def __post_init__(self) -> None:
        _check_source(self)
        declared = {c.name for c in self.columns}
        for a in self.aggregations:
            _check_aggregation(self, a, declared)
            require(
                bool(a.windows) or self.ttl is not None,
                f"view {self.name}: {a.operation} without a window needs the view's ttl",
            )
            for w in a.time_windows:
                require(
                    self.ttl is None or w.length <= self.ttl,
                    f"view {self.name}: the window {w.name} is longer than its ttl",
                )
        require(
            self.ttl is None or self.ttl > timedelta(0),
            f"view {self.name}: its ttl is longer than 0",
        )
        _check_distinct_names(self)

    @property
    def sources(self) -> tuple[EventType, ...]:
        """The types of events that it is computed from."""
        return (self.source,)

    @cached_property
    def features(self) -> tuple[str, ...]:
        """Names of all features, in the order of their values."""
        return tuple(a.feature(self.name, part) for a, part, _ in self.parts)

    @cached_property
    def parts(self) -> tuple[tuple[Aggregation, str, TimeWindow], ...]:
        """(aggregation, name of the window, window) of each feature."""
        return tuple(
            (a, w.name if a.windows else "", w)
            for a in self.aggregations
            for w in (a.time_windows or (self._whole,))
        )

    @cached_property
    def windows(self) -> tuple[TimeWindow, ...]:
        """All windows, shortest first."""
        windows = {w for _, _, w in self.parts}
        return tuple(sorted(windows, key=lambda w: (w.length, w.hop)))

    @property
    def reach_us(self) -> int:
        """How long before a query the time of an event that counts may lie, in microseconds."""
        if self.ttl is not None:
            return max(span_us(self.ttl), *(w.length_us + w.hop_us - 1 for w in self.windows))
        return max(w.length_us + w.hop_us - 1 for w in self.windows)

    @property
    def lookback_us(self) -> int:
        """How long before a query an event that counts may have happened, in microseconds."""
        return self.reach_us

    @property
    def request_fields(self) -> tuple[str, ...]:
        """The fields of the request that it reads, beside the keys of the entity."""
        return () if self.exclude_self is None else (self.exclude_self,)

    @property
    def _whole(self) -> TimeWindow:
        assert self.ttl is not None
        return TimeWindow(length=self.ttl)


@dataclass(frozen=True, kw_only=True)
class Span(Declaration):
    """A span of time that depends on the request: `start <= time < end`.

    `start` and `end` are given the request's columns of `reads` and return microseconds since 1970,
    one for each request. A span that ends before its start is empty. `as_of_us` is the decision
    time; `event_time_us` cannot be read (see `RequestColumn`).

        Span(
            name="same_hour",
            start=lambda request: request["scheduled_departure_us"] // HOUR * HOUR,
            end=lambda request: request["scheduled_departure_us"] // HOUR * HOUR + HOUR,
            reads=("scheduled_departure_us",),
        )
    """

    name: str
    start: Callable[[Columns], Int64Array]
    end: Callable[[Columns], Int64Array]
    reads: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class CalendarView(Declaration, BoundedReach):
    """Aggregations over a calendar: events that say what will be at a later time (a timetable, a
    booking), counted over spans that the request names.

    The feature as of time `t` uses the events of the entity with `known_at < t` whose `at` (a field
    in microseconds since 1970) lies in the span. Only count, sum, mean and rate are possible, and
    without windows. There is one feature for each aggregation and span.

        CalendarView(
            name="origin_schedule",
            source=SCHEDULED,
            entity=Entity(name="origin", keys=("origin",)),
            at="scheduled_departure_us",
            spans=(SAME_HOUR,),  # a `Span`
            aggregations=(Aggregation(operation="count"),),
            reach=timedelta(hours=12),
            ahead=timedelta(hours=48),
        )

    `reach`: how far before `t` a span may begin; all features of a span that begins earlier are
    NaN. `ahead`: how long before its `at` an event may happen; an earlier one does not count.
    """

    name: str
    source: EventType
    entity: Entity
    at: str
    spans: tuple[Span, ...]
    aggregations: tuple[Aggregation, ...]
    reach: timedelta
    ahead: timedelta
    columns: tuple[Column, ...] = ()

    def __post_init__(self) -> None:
        _check_source(self)
        who = f"view {self.name}"
        require_field(self.at, self.source.fields, f"{who}: no field {self.at!r}")
        check_time(self.source.record, self.at, who)
        check_limits(self)
        require(bool(self.spans), f"{who}: it has no span")
        require_distinct((s.name for s in self.spans), f"{who}: several spans are called")
        declared = {c.name for c in self.columns}
        for a in self.aggregations:
            _check_aggregation(self, a, declared)
            require(
                isinstance(a.definition, SumOperation) and not a.windows,
                f"view {self.name}: over spans there are {_SUM_OPERATIONS}, and no windows",
            )
        _check_distinct_names(self)

    @property
    def sources(self) -> tuple[EventType, ...]:
        """The types of events that it is computed from."""
        return (self.source,)

    @cached_property
    def features(self) -> tuple[str, ...]:
        """Names of all features, in the order of their values."""
        return tuple(a.feature(self.name, s.name) for a in self.aggregations for s in self.spans)

    @property
    def request_fields(self) -> tuple[str, ...]:
        """The fields of the request that it reads, beside the keys of the entity."""
        return tuple(dict.fromkeys(f for s in self.spans for f in s.reads if f != AS_OF))


@dataclass(frozen=True, kw_only=True)
class PythonView(Declaration):
    """A plain function over the events of one entity, for what no other view can express.

    `compute(events, as_of_us)` is given the entity's events by the name of their type: columns of
    the fields in `keeps` (numbers only; NaN for null) and `event_time_us`, sorted by it; only
    events with `known_at < t` and `event_time >= t - ttl`. It returns one number for each of
    `names`, NaN for null, and must not depend on the order of events of one microsecond. It is
    called once for each query, which is hundreds of times slower than an aggregation.

        PythonView(
            name="customer_gaps",
            entity=CUSTOMER,
            keeps=((ORDER_PLACED, ()),),
            compute=lambda events, as_of_us: [longest_gap(events["order.placed"], as_of_us)],
            names=("longest_us",),
            ttl=timedelta(days=90),
        )
    """

    name: str
    entity: Entity
    keeps: tuple[tuple[EventType, tuple[str, ...]], ...]
    compute: Callable[[dict[str, Columns], int], Sequence[float]]
    names: tuple[str, ...]
    ttl: timedelta

    def __post_init__(self) -> None:
        require(
            bool(self.keeps and self.names),
            f"view {self.name}: it keeps no events or has no features",
        )
        for event, fields in self.keeps:
            for field in (*self.entity.keys, *fields):
                mistake = f"view {self.name}: {event.name} has no field {field!r}"
                require_field(field, event.fields, mistake)
        require_distinct((e.name for e, _ in self.keeps), f"view {self.name}: it keeps twice")
        require(self.ttl > timedelta(0), f"view {self.name}: its ttl is longer than 0")
        _check_distinct_names(self)

    @property
    def sources(self) -> tuple[EventType, ...]:
        """The types of events that it is computed from."""
        return tuple(event for event, _ in self.keeps)

    @cached_property
    def features(self) -> tuple[str, ...]:
        """Names of all features, in the order of their values."""
        return tuple(f"{self.name}_{n}" for n in self.names)

    @property
    def reach_us(self) -> int:
        """How long before a query the time of an event that counts may lie, in microseconds."""
        return span_us(self.ttl)

    @property
    def lookback_us(self) -> int:
        """How long before a query an event that counts may have happened, in microseconds."""
        return self.reach_us

    @property
    def request_fields(self) -> tuple[str, ...]:
        """The fields of the request that it reads, beside the keys of the entity."""
        return ()


_SUM_OPERATIONS = listed(o.name for o in OPERATIONS.values() if isinstance(o, SumOperation))

View = FeatureView | CalendarView | OpenView | PreviousView | PythonView


def _check_source(view: FeatureView | CalendarView) -> None:
    fields = view.source.fields
    for key in view.entity.keys:
        require_field(key, fields, f"view {view.name}: its event has no key field {key!r}")
    for column in view.columns:
        for name in column.reads:
            require_field(name, fields, f"view {view.name}: its event has no field {name!r}")
    own = view.exclude_self if isinstance(view, FeatureView) else None
    if own is not None:
        require_field(own, fields, f"view {view.name}: its event has no field {own!r}")
    require_distinct(
        (c.name for c in view.columns), f"view {view.name}: several columns are called"
    )
    require(bool(view.aggregations), f"view {view.name}: it has no aggregation")


def _check_aggregation(
    view: FeatureView | CalendarView, a: Aggregation, declared: Set[str]
) -> None:
    if a.definition.adds_up:
        require(
            a.column in declared,
            f"view {view.name}: {a.operation} of an undeclared column {a.column!r}",
            hint=partial(near, str(a.column), declared),
        )
    elif a.column is not None:
        require(
            a.column in declared or a.column in view.source.fields,
            f"view {view.name}: {a.operation} of an unknown field {a.column!r}",
            hint=partial(near, a.column, (*declared, *view.source.fields)),
        )


def _check_distinct_names(view: FeatureView | CalendarView | PythonView) -> None:
    require_distinct(view.features, f"view {view.name}: several features are called")

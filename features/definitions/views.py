"""Views: what is asked about the events of an entity."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from itertools import pairwise

from features.definitions.aggregations import ADDED_UP, OF_ADDED_COLUMNS, Aggregation, TimeWindow
from features.definitions.events import Column, Columns, Entity, EventType, Int64Array
from features.definitions.lifecycle_views import OpenView, PreviousView, ReachesBack
from features.definitions.validation import require
from infra.clock import span_us


@dataclass(frozen=True, kw_only=True)
class FeatureView:
    """Aggregations over the events of one type, by entity.

    The value for entity `e` at time `t` and window `W` uses exactly the events of `e` with
    `known_at < t` and `event_time >= floor(t - W, hop)`.

    `ttl`: events older than it are forgotten; no window reaches further. `exclude_self`: a field of
    event and request: events that share it with the request do not count for it, so that nothing
    feeds its own forecast.
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
        for a in self.aggregations:
            _check_aggregation(self, a)
            require(
                bool(a.windows) or self.ttl is not None,
                f"view {self.name}: {a.operation} without a window needs the view's ttl",
            )
            for w in a.time_windows:
                require(
                    self.ttl is None or w.length <= self.ttl,
                    f"view {self.name}: the window {w.name} is longer than its ttl",
                )
        _check_hops(self)
        _check_distinct_names(self)

    @property
    def sources(self) -> tuple[EventType, ...]:
        """The events that it is made of."""
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
        found = {w for _, _, w in self.parts}
        return tuple(sorted(found, key=lambda w: (w.length, w.hop)))

    @property
    def reach_us(self) -> int:
        """How long before a question an event may lie and count, in microseconds."""
        if self.ttl is not None:
            return max(span_us(self.ttl), *(w.length_us + w.hop_us - 1 for w in self.windows))
        return max(w.length_us + w.hop_us - 1 for w in self.windows)

    @property
    def lookback_us(self) -> int:
        """How long before a question an event may have happened and count, in microseconds."""
        return self.reach_us

    @property
    def request_fields(self) -> tuple[str, ...]:
        """Fields that a question has beside the keys of the entity."""
        return () if self.exclude_self is None else (self.exclude_self,)

    @property
    def _whole(self) -> TimeWindow:
        assert self.ttl is not None
        return TimeWindow(length=self.ttl)


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch of time that a request names: `start <= time < end`, both computed from its fields
    (microseconds)."""

    name: str
    start: Callable[[Columns], Int64Array]
    end: Callable[[Columns], Int64Array]
    reads: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class CalendarView(ReachesBack):
    """Aggregations over what is in the calendar: events placed at a time ahead (`at`, a field in
    microseconds), asked for by the spans of a request.

    The value at `t` uses the events of the entity with `known_at < t` whose `at` lies in the span.
    A span that begins more than `reach` before `t` gives nothing (NaN); an event that happened more
    than `ahead` before its `at` does not count.
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
        require(self.at in self.source.fields, f"view {self.name}: no field {self.at!r}")
        require(bool(self.spans), f"view {self.name}: it has no span")
        for a in self.aggregations:
            _check_aggregation(self, a)
            require(
                a.operation in ADDED_UP and not a.windows,
                f"view {self.name}: over spans there are count, sum, mean and rate, and no windows",
            )
        _check_distinct_names(self)

    @property
    def sources(self) -> tuple[EventType, ...]:
        """The events that it is made of."""
        return (self.source,)

    @cached_property
    def features(self) -> tuple[str, ...]:
        """Names of all features, in the order of their values."""
        return tuple(a.feature(self.name, s.name) for a in self.aggregations for s in self.spans)

    @property
    def request_fields(self) -> tuple[str, ...]:
        """Fields that a question has beside the keys of the entity."""
        return tuple(dict.fromkeys(f for s in self.spans for f in s.reads))


@dataclass(frozen=True, kw_only=True)
class PythonView:
    """For what no word covers: a plain function over the events of one entity.

    `compute(events, as_of_us)` is given the entity's events of each type in `keeps` (event -> its
    fields, numbers only), by event type's name, sorted by `event_time_us`; only those with
    `known_at < t` and `event_time >= t - ttl`. It gives one number for each of `names`, NaN for
    nothing, and must not depend on the order of events of one microsecond. It is called once for
    each question: hundreds of times slower than an aggregation.
    """

    name: str
    entity: Entity
    keeps: tuple[tuple[EventType, tuple[str, ...]], ...]
    compute: Callable[[dict[str, Columns], int], Sequence[float]]
    names: tuple[str, ...]
    ttl: timedelta

    def __post_init__(self) -> None:
        require(bool(self.keeps and self.names), f"view {self.name}: it keeps or gives nothing")
        for event, fields in self.keeps:
            for field in (*self.entity.keys, *fields):
                require(
                    field in event.fields, f"view {self.name}: {event.name} has no field {field!r}"
                )
        _check_distinct_names(self)

    @property
    def sources(self) -> tuple[EventType, ...]:
        """The events that it is made of."""
        return tuple(event for event, _ in self.keeps)

    @cached_property
    def features(self) -> tuple[str, ...]:
        """Names of all features, in the order of their values."""
        return tuple(f"{self.name}_{n}" for n in self.names)

    @property
    def reach_us(self) -> int:
        """How long before a question an event may lie and count, in microseconds."""
        return span_us(self.ttl)

    @property
    def lookback_us(self) -> int:
        """How long before a question an event may have happened and count, in microseconds."""
        return self.reach_us

    @property
    def request_fields(self) -> tuple[str, ...]:
        """Fields that a question has beside the keys of the entity."""
        return ()


View = FeatureView | CalendarView | OpenView | PreviousView | PythonView


def _check_source(view: FeatureView | CalendarView) -> None:
    fields = view.source.fields
    for key in view.entity.keys:
        require(key in fields, f"view {view.name}: its event has no key field {key!r}")
    for column in view.columns:
        for name in column.reads:
            require(name in fields, f"view {view.name}: its event has no field {name!r}")
    own = view.exclude_self if isinstance(view, FeatureView) else None
    require(own is None or own in fields, f"view {view.name}: its event has no field {own!r}")
    require(bool(view.aggregations), f"view {view.name}: it has no aggregation")


def _check_aggregation(view: FeatureView | CalendarView, a: Aggregation) -> None:
    declared = {c.name for c in view.columns}
    if a.operation in OF_ADDED_COLUMNS:
        require(
            a.column in declared,
            f"view {view.name}: {a.operation} of an undeclared column {a.column!r}",
        )
    elif a.column is not None:
        require(
            a.column in declared or a.column in view.source.fields,
            f"view {view.name}: {a.operation} of an unknown field {a.column!r}",
        )


def _check_hops(view: FeatureView) -> None:
    """Each hop divides the longer ones, so that a row can be moved from one to the next."""
    hops = sorted({w.hop_us for w in view.windows})
    for shorter, longer in pairwise(hops):
        require(
            longer % shorter == 0, f"view {view.name}: a hop does not divide the next longer one"
        )


def _check_distinct_names(view: FeatureView | CalendarView | PythonView) -> None:
    distinct = len(set(view.features)) == len(view.features)
    require(distinct, f"view {view.name}: two features of one name")

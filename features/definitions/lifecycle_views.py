"""Views over items that several events report on: flights, orders, tickets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from numpy.typing import NDArray

from features.definitions.declaration import Declaration
from features.definitions.events import Columns, Entity, EventType
from features.definitions.records import check_time
from features.definitions.validation import require, require_distinct, require_field
from infra.clock import span_us

AS_OF = "as_of_us"
"""The decision time among the columns of a request, live as in history."""


class BoundedReach:
    """The limits of views whose events happen before the time that they are about."""

    name: str
    reach: timedelta
    ahead: timedelta

    @property
    def reach_us(self) -> int:
        """How long before a query the time of an item that counts may lie, in microseconds."""
        return span_us(self.reach)

    @property
    def lookback_us(self) -> int:
        """How long before a query an event that counts may have happened, in microseconds."""
        return span_us(self.reach + self.ahead)


def check_limits(view: BoundedReach) -> None:
    """Reports limits that let nothing count."""
    require(view.reach > timedelta(0), f"view {view.name}: its reach is longer than 0")
    require(view.ahead >= timedelta(0), f"view {view.name}: its ahead is not negative")


class ItemReach(BoundedReach):
    """The limits of views over items, whose events may come in any order."""

    @property
    def memory_us(self) -> int:
        """How long before a query the time of an item lies at most that another opening of the item
        has to wait for; and how long before an item's time its other events may be known."""
        return span_us(self.reach + self.ahead)

    @property
    def lookback_us(self) -> int:
        """How long before a query an event that counts may have happened or become known, in
        microseconds: an opening `ahead` before a time that lies `memory_us` back, another event
        `memory_us` before a time that lies `reach` back."""
        return 2 * self.memory_us


OPEN_FEATURES: Mapping[str, str] = {
    "count": "number of open items",
    "mean_minutes": "how long they have been due, on average in minutes; null if there are none",
}
"""What an `OpenView` can compute, and what it means."""


@dataclass(frozen=True, kw_only=True)
class OpenView(Declaration, ItemReach):
    """How many items of an entity are open: due, and not closed by any event that is known.

    An item (identified by the field `item` of every event) is open at `t` if its `opened` event is
    known before `t`, `t - reach <= due < t`, and no event of `closed_by` about it is known before
    `t`. `due` is a field of `opened`, in microseconds since 1970. For example, the flights that
    should have left by now:

        OpenView(
            name="origin_overdue",
            entity=Entity(name="origin", keys=("origin",)),
            item="flight_id",
            opened=SCHEDULED,
            due="scheduled_departure_us",
            closed_by=(DEPARTED, CANCELLED),
            reach=timedelta(hours=6),
            ahead=timedelta(hours=48),
        )

    `gives`: the features, of `count` (0 if there are none) and `mean_minutes`: how many minutes the
    open items have been due on average (NaN if there are none). `ahead`: how long before its `due`
    an item may be opened; an earlier `opened` event does not count. Of several the one known first
    counts until its `due` lies `reach + ahead` back. An event of `closed_by` counts if it was known
    at most `reach + ahead` before `due`.
    """

    name: str
    entity: Entity
    item: str
    opened: EventType
    due: str
    closed_by: tuple[EventType, ...]
    reach: timedelta
    ahead: timedelta
    gives: tuple[str, ...] = tuple(OPEN_FEATURES)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.gives) - OPEN_FEATURES.keys())
        require(bool(self.gives) and not unknown, f"view {self.name}: it cannot give {unknown}")
        require_field(self.due, self.opened.fields, f"view {self.name}: no field {self.due!r}")
        check_time(self.opened.record, self.due, f"view {self.name}")
        _check_items(self)

    @property
    def sources(self) -> tuple[EventType, ...]:
        """The types of events that it is computed from."""
        return (self.opened, *self.closed_by)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of all features, in the order of their values."""
        return tuple(f"{self.name}_{feature}" for feature in self.gives)

    @property
    def request_fields(self) -> tuple[str, ...]:
        """The fields of the request that it reads, beside the keys of the entity."""
        return ()


@dataclass(frozen=True, kw_only=True)
class ItemValue(Declaration):
    """A feature of the item that a `PreviousView` looks up.

    `compute(item, request)` is given columns, one value for each query, and returns float64, NaN
    for null. `item` has `<event>.<field>` for every field that the view keeps (NaN where the event
    is not known) and `<event>`, a bool: whether the event is known. `request` has the request's
    fields and `as_of_us`. `meaning` is the feature's description on the reference page.
    """

    name: str
    meaning: str
    compute: Callable[[Columns, Columns], NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class PreviousView(Declaration, ItemReach):
    """What is known about the item of the same entity that comes before the request's own.

    Items (identified by the field `item` of every event) are ordered by the field `order` of the
    `opened` event. A query at time `t` looks up the last item with
    `before - reach <= order < before` whose `opened` event is known before `t`, and about which no
    event of `unless` is. `before` is a field of the request; before `t` it finds no item. Ties on
    `order` are broken by the hash of the item's id. For example, the flight of the same aircraft
    before this one:

        PreviousView(
            name="previous_leg",
            entity=Entity(name="aircraft", keys=("tailnum",)),
            item="flight_id",
            opened=SCHEDULED,
            order="scheduled_departure_us",
            before="scheduled_departure_us",
            reach=timedelta(hours=18),
            ahead=timedelta(hours=48),
            keeps=((DEPARTED, ("departure_delay_minutes",)),),
            values=(
                ItemValue(
                    name="delay_minutes",
                    meaning="its delay at departure; null if it has not left",
                    compute=lambda item, _: item["flight.departed.departure_delay_minutes"],
                ),
            ),
            unless=(CANCELLED,),
        )

    `keeps`: (event, its fields, numbers only) that the values read; of two events of one type about
    one item the one that was known first counts. `asks_for`: the fields of the request that the
    values read. `ahead`: how long before its `order` an item may be opened; an earlier `opened`
    event does not count. Of several the one known first counts until its `order` lies
    `reach + ahead` back. Other events count if they were known at most `reach + ahead` before.
    """

    name: str
    entity: Entity
    item: str
    opened: EventType
    order: str
    before: str
    reach: timedelta
    ahead: timedelta
    keeps: tuple[tuple[EventType, tuple[str, ...]], ...]
    values: tuple[ItemValue, ...]
    asks_for: tuple[str, ...] = ()  # fields of the request that the values read
    unless: tuple[EventType, ...] = ()

    def __post_init__(self) -> None:
        require_field(self.order, self.opened.fields, f"view {self.name}: no field {self.order!r}")
        check_time(self.opened.record, self.order, f"view {self.name}")
        for event, fields in self.keeps:
            for field in fields:
                mistake = f"view {self.name}: {event.name} has no field {field!r}"
                require_field(field, event.fields, mistake)
        require_distinct((e.name for e, _ in self.keeps), f"view {self.name}: it keeps twice")
        require(bool(self.values), f"view {self.name}: it has no value")
        _check_items(self)

    @property
    def sources(self) -> tuple[EventType, ...]:
        """The types of events that it is computed from."""
        kept = [event for event, _ in self.keeps]
        return tuple(dict.fromkeys((self.opened, *kept, *self.unless)))

    @property
    def features(self) -> tuple[str, ...]:
        """Names of all features, in the order of their values."""
        return tuple(f"{self.name}_{v.name}" for v in self.values)

    @property
    def request_fields(self) -> tuple[str, ...]:
        """The fields of the request that it reads, beside the keys of the entity."""
        return tuple(dict.fromkeys(f for f in (self.before, *self.asks_for) if f != AS_OF))


LifecycleView = OpenView | PreviousView


def _check_items(view: LifecycleView) -> None:
    check_limits(view)
    require_distinct(view.features, f"view {view.name}: several features are called")
    for event in view.sources:
        for field in (view.item, *view.entity.keys):
            mistake = f"view {view.name}: {event.name} has no field {field!r}"
            require_field(field, event.fields, mistake)

"""Synthetic orders of a shop: three event types, and a view of each kind."""

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
from msgspec import Struct

from features.definitions import (
    Aggregation,
    CalendarView,
    Check,
    Column,
    Columns,
    Entity,
    EventType,
    FeatureView,
    ItemValue,
    OpenView,
    PreviousView,
    PythonView,
    Span,
    TimeWindow,
    View,
)
from features.engine.columns import field_tuples
from features.engine.event_rows import EventRows
from infra.clock import MINUTE, SECOND
from infra.kafka.partitions import Partition

START_US = 1_357_000_000 * SECOND
MAX_WEIGHT = 1_000.0


class OfOrder(Struct, frozen=True, kw_only=True):
    """The fields of every event of an order."""

    event_id: str
    event_time_us: int
    shop: str
    order_id: str


class Placed(OfOrder, frozen=True, kw_only=True):
    """An order was placed."""

    customer: str | None
    cents: int
    weight: float | None
    due_us: int


class Shipped(OfOrder, frozen=True, kw_only=True):
    """The order was shipped."""

    parcels: int | None


class Dropped(OfOrder, frozen=True, kw_only=True):
    """The order will not be shipped."""


class Requested(OfOrder, frozen=True, kw_only=True):
    """A prediction is requested for an order."""

    due_us: int


PLACED = EventType(
    name="order.placed",
    record=Placed,
    key="order_id",
    checks=(
        Check(
            name="a weight that one can lift",
            holds=lambda e: e["weight"] <= MAX_WEIGHT,
            reads=("weight",),
            on_failure="nullify",
            field="weight",
        ),
    ),
)
SHIPPED = EventType(name="order.shipped", record=Shipped, key="order_id")
DROPPED = EventType(name="order.dropped", record=Dropped, key="order_id")
REQUESTED = EventType(name="order.asked", record=Requested, key="order_id")
EVENTS = (PLACED, SHIPPED, DROPPED)
SHOP = Entity(name="shop", keys=("shop",))


def _s(seconds: int) -> timedelta:
    return timedelta(seconds=seconds)


CENTS = Column(name="price", compute=lambda e: e["cents"], reads=("cents",))
LARGE = Column(name="large", compute=lambda e: e["cents"] >= 3, reads=("cents",))
KILOS = Column(name="kilos", compute=lambda e: e["weight"], reads=("weight",), scale=10)

SHORT, LONG = _s(10), TimeWindow(length=_s(40), hop=_s(4))
ADDED = FeatureView(
    name="added",
    source=PLACED,
    entity=SHOP,
    columns=(CENTS, LARGE, KILOS),
    aggregations=(
        Aggregation(operation="count", windows=(SHORT, LONG)),
        Aggregation(operation="sum", column="price", windows=(SHORT, LONG)),
        Aggregation(operation="mean", column="kilos", windows=(SHORT, LONG)),
        Aggregation(operation="rate", column="large", windows=(SHORT, LONG)),
        Aggregation(operation="min", column="weight", windows=(SHORT, LONG)),
        Aggregation(operation="max", column="kilos", windows=(SHORT, LONG)),
        Aggregation(operation="distinct", column="customer", windows=(SHORT, LONG)),
    ),
)
TIMED = FeatureView(
    name="timed",
    source=PLACED,
    entity=SHOP,
    ttl=_s(40),
    aggregations=(
        Aggregation(operation="first", column="weight", windows=(SHORT, LONG)),
        Aggregation(operation="last", column="weight", windows=(SHORT,)),
        Aggregation(operation="last", column="cents"),
        Aggregation(operation="change", column="cents", windows=(SHORT, LONG)),
        Aggregation(operation="since_first", windows=(SHORT, LONG)),
        Aggregation(operation="since_last"),
    ),
)
FOREIGN = FeatureView(
    name="foreign",
    source=PLACED,
    entity=SHOP,
    exclude_self="order_id",
    columns=(CENTS,),
    aggregations=(
        Aggregation(operation="count", windows=(SHORT, LONG)),
        Aggregation(operation="mean", column="price", windows=(SHORT, LONG)),
        Aggregation(operation="max", column="cents", windows=(SHORT, LONG)),
        Aggregation(operation="last", column="weight", windows=(SHORT,)),
        Aggregation(operation="distinct", column="customer", windows=(LONG,)),
    ),
)
CALENDAR = CalendarView(
    name="calendar",
    source=PLACED,
    entity=SHOP,
    at="due_us",
    reach=_s(30),
    ahead=_s(60),
    columns=(CENTS,),
    spans=(
        Span(
            name="same_ten",
            start=lambda q: q["due_us"] - q["due_us"] % (10 * SECOND),
            end=lambda q: q["due_us"] - q["due_us"] % (10 * SECOND) + 10 * SECOND,
            reads=("due_us",),
        ),
        Span(
            name="before",
            start=lambda q: q["due_us"] - 20 * SECOND,
            end=lambda q: q["due_us"],
            reads=("due_us",),
        ),
    ),
    aggregations=(
        Aggregation(operation="count"),
        Aggregation(operation="mean", column="price"),
    ),
)
OVERDUE = OpenView(
    name="overdue",
    entity=SHOP,
    item="order_id",
    opened=PLACED,
    due="due_us",
    closed_by=(SHIPPED, DROPPED),
    reach=_s(30),
    ahead=_s(400),
)


def _minutes(item: Columns, question: Columns) -> Any:
    return (question["as_of_us"] - item["order.placed.due_us"]) / MINUTE


PREVIOUS = PreviousView(
    name="previous",
    entity=SHOP,
    item="order_id",
    opened=PLACED,
    order="due_us",
    before="due_us",
    reach=_s(30),
    ahead=_s(400),
    keeps=((PLACED, ("due_us", "weight")), (SHIPPED, ("parcels",))),
    unless=(DROPPED,),
    values=(
        ItemValue(name="known", meaning="", compute=lambda i, _: i["order.placed"]),
        ItemValue(name="shipped", meaning="", compute=lambda i, _: i["order.shipped"]),
        ItemValue(name="parcels", meaning="", compute=lambda i, _: i["order.shipped.parcels"]),
        ItemValue(name="weight", meaning="", compute=lambda i, _: i["order.placed.weight"]),
        ItemValue(name="late_minutes", meaning="", compute=_minutes),
    ),
)


def _spread(events: Mapping[str, Columns], as_of_us: int) -> Sequence[float]:
    """Features that no aggregation covers: the median price, and the longest gap between events."""
    cents = np.sort(events["order.placed"]["cents"])
    times = np.sort(
        np.concatenate([events[n]["event_time_us"] for n in ("order.placed", "order.shipped")])
    )
    gaps = np.diff(np.append(times, as_of_us)) if len(times) else np.array([np.nan])
    return (float(np.median(cents)) if len(cents) else math.nan, float(gaps.max()))


SPREAD = PythonView(
    name="spread",
    entity=SHOP,
    keeps=((PLACED, ("cents",)), (SHIPPED, ("parcels",))),
    compute=_spread,
    names=("median_cents", "longest_gap_us"),
    ttl=_s(30),
)
VIEWS: tuple[View, ...] = (ADDED, TIMED, FOREIGN, CALENDAR, OVERDUE, PREVIOUS, SPREAD)


class Delivery(Struct, frozen=True, kw_only=True):
    """An event as it reached its partition. Times are in seconds after `START_US`."""

    event: str  # the name of its type
    id: str
    order: str
    happened: int
    known: int
    shop: str = "a"
    customer: str | None = "c1"
    cents: int = 1
    weight: float | None = None
    due: int = 0
    parcels: int | None = None

    @property
    def checked_weight(self) -> float:
        """The weight; NaN where it is missing or fails the check."""
        weight = math.nan if self.weight is None else self.weight
        return math.nan if weight > MAX_WEIGHT else weight

    def record(self) -> OfOrder:
        """The event itself."""
        own: dict[str, Any] = {
            "event_id": self.id,
            "event_time_us": us(self.happened),
            "shop": self.shop,
            "order_id": self.order,
        }
        if self.event == SHIPPED.name:
            return Shipped(**own, parcels=self.parcels)
        if self.event == DROPPED.name:
            return Dropped(**own)
        return Placed(
            **own,
            customer=self.customer,
            cents=self.cents,
            weight=self.weight,
            due_us=us(self.due),
        )


class Query(Struct, frozen=True, kw_only=True):
    """A point-in-time query, as of second `t`."""

    shop: str
    t: int
    order: str
    due: int


def us(second: int) -> int:
    """The second as microseconds since 1970."""
    return START_US + second * SECOND


def fields_of(queries: Sequence[Query]) -> dict[str, list[object]]:
    """The fields of the queries, as columns."""
    return {
        "shop": [q.shop for q in queries],
        "order_id": [q.order for q in queries],
        "due_us": [us(q.due) for q in queries],
    }


def times_of(queries: Sequence[Query]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The points in time of the queries, in microseconds."""
    return np.array([us(q.t) for q in queries], np.int64)


def rows_of(
    deliveries: Sequence[Delivery], start: int, stop: int
) -> tuple[list[EventRows], dict[Partition, int]]:
    """The deliveries from `start` to `stop` by event type, and the next offsets after them."""
    rows, positions = [], {}
    for event in EVENTS:
        indices = [i for i, e in enumerate(deliveries) if e.event == event.name]
        first_offset = sum(i < start for i in indices)
        batch = [deliveries[i] for i in indices if start <= i < stop]
        if batch:
            rows.append(_of_type(event, batch, first_offset))
            positions[Partition(event.name, 0)] = first_offset + len(batch)
    return rows, positions


def _of_type(event: EventType, deliveries: Sequence[Delivery], first_offset: int) -> EventRows:
    n = len(deliveries)
    return EventRows(
        event=event,
        fields=field_tuples([e.record() for e in deliveries], event.fields),
        partition=np.zeros(n, np.int64),
        offset=np.arange(first_offset, first_offset + n),
        known_at_us=np.array([us(e.known) for e in deliveries], np.int64),
    )

"""A small synthetic event type for tests of the feature store, and a slow reference for it."""

import math
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
from msgspec import Struct

from features.definitions import Aggregation, Column, Entity, EventType, FeatureView, Float64Array
from features.engine.columns import field_tuples
from features.engine.event_rows import EventRows
from infra.clock import MINUTE, SECOND, span_us

START_US = 1_357_000_000 * SECOND


class Sold(Struct, frozen=True, kw_only=True):
    """Something was sold in a shop."""

    event_id: str
    event_time_us: int
    shop: str
    city: str | None = None
    cents: int = 0
    weight: float | None = None


SOLD = EventType(name="shop.sold", record=Sold, key="shop", partitions=2)
WINDOWS = (timedelta(seconds=10), timedelta(seconds=40))
SHOP_SALES = FeatureView(
    name="shop_sales",
    source=SOLD,
    entity=Entity(name="shop", keys=("shop",)),
    columns=(
        Column(name="cents", compute=lambda e: e["cents"], reads=("cents",)),
        Column(name="large", compute=lambda e: e["cents"] >= 3, reads=("cents",)),
    ),
    aggregations=(
        Aggregation(operation="count", windows=WINDOWS),
        Aggregation(operation="sum", column="cents", windows=WINDOWS),
        Aggregation(operation="mean", column="cents", windows=WINDOWS),
        Aggregation(operation="rate", column="large", windows=WINDOWS),
        Aggregation(operation="last", column="weight", windows=WINDOWS),
        Aggregation(operation="since_last", windows=WINDOWS),
    ),
)
CITY_SALES = FeatureView(
    name="city_sales",
    source=SOLD,
    entity=Entity(name="city", keys=("city", "shop")),
    aggregations=(Aggregation(operation="count", windows=WINDOWS),),
)


class Sale(Struct, frozen=True, kw_only=True):
    """A sale as it reached a partition. Times are in seconds after `START_US`."""

    id: str
    happened: int
    known: int
    shop: str = "a"
    city: str | None = "x"
    cents: int = 1
    weight: float | None = None

    @property
    def happened_us(self) -> int:
        """Since 1970."""
        return START_US + self.happened * SECOND

    @property
    def known_us(self) -> int:
        """Since 1970."""
        return START_US + self.known * SECOND

    def record(self) -> Sold:
        """The event itself."""
        return Sold(
            event_id=self.id,
            event_time_us=self.happened_us,
            shop=self.shop,
            city=self.city,
            cents=self.cents,
            weight=self.weight,
        )


def sale(id: str = "1", happened: int = 0, **rest: Any) -> Sale:  # noqa: A002
    """A sale, known at once by default."""
    return Sale(id=id, happened=happened, **{"known": happened, **rest})


def rows_of(sales: Sequence[Sale], *, first_offset: int = 0, partition: int = 0) -> EventRows:
    """The sales as ingest decodes them: one partition, consecutive offsets."""
    n = len(sales)
    return EventRows(
        event=SOLD,
        fields=field_tuples([s.record() for s in sales], SOLD.fields),
        partition=np.full(n, partition, np.int64),
        offset=np.arange(first_offset, first_offset + n),
        known_at_us=np.array([s.known_us for s in sales], np.int64),
    )


def without_duplicates(sales: Iterable[Sale], *, horizon_s: int) -> list[Sale]:
    """The rule of `features.engine.deduplication`, as a plain loop."""
    last_known: dict[str, int] = {}
    first_sightings = []
    for sale in sales:
        if sale.id not in last_known or sale.known - last_known[sale.id] > horizon_s:
            first_sightings.append(sale)
        last_known[sale.id] = sale.known
    return first_sightings


def reference(sales: Sequence[Sale], queries: Sequence[tuple[str, int]]) -> Float64Array:
    """The features of `SHOP_SALES` as the documentation defines them, one value at a time."""
    return np.array([_features(sales, shop, t) for shop, t in queries]).reshape(
        len(queries), len(SHOP_SALES.features)
    )


def _features(sales: Sequence[Sale], shop: str, t: int) -> list[float]:
    return [
        _value(a.operation, [s for s in sales if _counts(s, shop, t, span_us(w) // SECOND)], t)
        for a in SHOP_SALES.aggregations
        for w in WINDOWS
    ]


def _counts(s: Sale, shop: str, t: int, window: int) -> bool:
    return s.shop == shop and s.known < t and s.happened >= t - window


def _value(operation: str, sales: Sequence[Sale], t: int) -> float:
    if operation in ("count", "sum"):
        return float(len(sales) if operation == "count" else sum(s.cents for s in sales))
    if not sales:
        return math.nan
    if operation == "mean":
        return sum(s.cents for s in sales) / len(sales)
    if operation == "rate":
        return sum(s.cents >= 3 for s in sales) / len(sales)
    newest = max(s.happened for s in sales)
    if operation == "since_last":
        return (t - newest) * SECOND / MINUTE
    weights = [s.weight for s in sales if s.happened == newest and s.weight is not None]
    return max(weights) if weights else math.nan

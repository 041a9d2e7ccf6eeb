"""What is known about airports, carriers and routes."""

from datetime import timedelta

import numpy as np

from features.catalog.flights.events import DEPARTED, LANDED, WEATHER
from features.vocabulary import Aggregation, Column, Entity, FeatureView

ORIGIN = Entity(name="origin", keys=("origin",))
CARRIER = Entity(name="carrier", keys=("carrier",))
ROUTE = Entity(name="route", keys=("origin", "dest"))

H1, H3, H6, H24 = (timedelta(hours=h) for h in (1, 3, 6, 24))
D7 = timedelta(days=7)

# One flight that is a day late must not drown a hundred others.
DEPARTURE_DELAY = Column(
    name="delay",
    compute=lambda e: np.clip(e["departure_delay_minutes"], -60, 240),
    reads=("departure_delay_minutes",),
)
DEPARTED_LATE = Column(
    name="late15",
    compute=lambda e: e["departure_delay_minutes"] >= 15,
    reads=("departure_delay_minutes",),
)
ARRIVAL_DELAY = Column(
    name="delay",
    compute=lambda e: np.clip(e["arrival_delay_minutes"], -60, 240),
    reads=("arrival_delay_minutes",),
)
LANDED_LATE = Column(
    name="late15",
    compute=lambda e: e["arrival_delay_minutes"] >= 15,
    reads=("arrival_delay_minutes",),
)


def _lateness(*windows: timedelta) -> tuple[Aggregation, ...]:
    return (
        Aggregation(operation="count", windows=windows),
        Aggregation(operation="mean", column="delay", windows=windows),
        Aggregation(operation="rate", column="late15", windows=windows),
    )


ORIGIN_DEPARTURES = FeatureView(
    name="origin_departures",
    source=DEPARTED,
    entity=ORIGIN,
    columns=(DEPARTURE_DELAY, DEPARTED_LATE),
    aggregations=_lateness(H1, H3, H24),
)
CARRIER_DEPARTURES = FeatureView(
    name="carrier_departures",
    source=DEPARTED,
    entity=CARRIER,
    columns=(DEPARTURE_DELAY, DEPARTED_LATE),
    aggregations=_lateness(H1, H3, H24),
)
ROUTE_LANDINGS = FeatureView(
    name="route_landings",
    source=LANDED,
    entity=ROUTE,
    columns=(ARRIVAL_DELAY, LANDED_LATE),
    aggregations=_lateness(H24, D7),
)
ORIGIN_WEATHER = FeatureView(
    name="origin_weather",
    source=WEATHER,
    entity=ORIGIN,
    aggregations=(
        *(
            Aggregation(operation="last", column=column, windows=(H6,))
            for column in (
                "temperature_f",
                "dew_point_f",
                "humidity_percent",
                "wind_speed_mph",
                "precipitation_inches",
                "pressure_mbar",
                "visibility_miles",
            )
        ),
        Aggregation(operation="since_last", windows=(H6,)),
    ),
)

ALL = (ORIGIN_DEPARTURES, CARRIER_DEPARTURES, ROUTE_LANDINGS, ORIGIN_WEATHER)

"""The views of airports, carriers, routes and aircraft."""

from datetime import timedelta

import numpy as np

from features.catalog.flights.events import (
    CANCELLED,
    DEPARTED,
    LANDED,
    REGISTERED,
    SCHEDULED,
    WEATHER,
)
from features.catalog.flights.previous_leg import AIRCRAFT, PREVIOUS_LEG
from features.definitions import (
    Aggregation,
    CalendarView,
    Column,
    Columns,
    Entity,
    FeatureView,
    Int64Array,
    OpenView,
    Span,
)
from infra.clock import HOUR

ORIGIN = Entity(name="origin", keys=("origin",))
DEST = Entity(name="dest", keys=("dest",))
CARRIER = Entity(name="carrier", keys=("carrier",))
ORIGIN_CARRIER = Entity(name="origin_carrier", keys=("origin", "carrier"))
ROUTE = Entity(name="route", keys=("origin", "dest"))
FLIGHT_NUMBER = Entity(name="flight_number", keys=("carrier", "flight"))

H1, H3, H6, H24 = (timedelta(hours=h) for h in (1, 3, 6, 24))
D7 = timedelta(days=7)
REGISTERED_FOR = timedelta(days=730)

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
PRECIPITATION = Column(
    name="precipitation_inches",
    compute=lambda e: e["precipitation_inches"],
    reads=("precipitation_inches",),
    scale=100,  # gauges report hundredths of an inch
)


def _lateness(*windows: timedelta) -> tuple[Aggregation, ...]:
    return (
        Aggregation(operation="count", windows=windows),
        Aggregation(operation="mean", column="delay", windows=windows),
        Aggregation(operation="rate", column="late15", windows=windows),
    )


def _departures(entity: Entity, *windows: timedelta) -> FeatureView:
    return FeatureView(
        name=f"{entity.name}_departures",
        source=DEPARTED,
        entity=entity,
        columns=(DEPARTURE_DELAY, DEPARTED_LATE),
        aggregations=_lateness(*windows),
    )


def _landings(entity: Entity, *windows: timedelta) -> FeatureView:
    return FeatureView(
        name=f"{entity.name}_landings",
        source=LANDED,
        entity=entity,
        columns=(ARRIVAL_DELAY, LANDED_LATE),
        aggregations=_lateness(*windows),
    )


ORIGIN_DEPARTURES = _departures(ORIGIN, H1, H3, H24, D7)
CARRIER_DEPARTURES = _departures(CARRIER, H1, H3, H24, D7)
ORIGIN_CARRIER_DEPARTURES = _departures(ORIGIN_CARRIER, H1, H3, H24)
DEST_LANDINGS = _landings(DEST, H3, H24, D7)
CARRIER_LANDINGS = _landings(CARRIER, H3, H24)
ROUTE_LANDINGS = _landings(ROUTE, H24, D7)
FLIGHT_NUMBER_LANDINGS = _landings(FLIGHT_NUMBER, D7)
ORIGIN_CANCELLATIONS = FeatureView(
    name="origin_cancellations",
    source=CANCELLED,
    entity=ORIGIN,
    aggregations=(Aggregation(operation="count", windows=(H3, H24)),),
)
AIRCRAFT_DEPARTURES = FeatureView(
    name="aircraft_departures",
    source=DEPARTED,
    entity=AIRCRAFT,
    aggregations=(Aggregation(operation="count", windows=(H24,)),),
)
AIRCRAFT_REGISTER = FeatureView(
    name="aircraft_register",
    source=REGISTERED,
    entity=AIRCRAFT,
    ttl=REGISTERED_FOR,
    aggregations=(
        Aggregation(operation="last", column="seats"),
        Aggregation(operation="last", column="built_year"),
    ),
)


def _overdue(entity: Entity, *gives: str) -> OpenView:
    """Flights that should have left by now, but are not known to have left or to be cancelled."""
    return OpenView(
        name=f"{entity.name}_overdue",
        entity=entity,
        item="flight_id",
        opened=SCHEDULED,
        due="scheduled_departure_us",
        closed_by=(DEPARTED, CANCELLED),
        reach=H6,
        ahead=timedelta(hours=48),
        gives=gives,
    )


ORIGIN_OVERDUE = _overdue(ORIGIN, "count", "mean_minutes")
ORIGIN_CARRIER_OVERDUE = _overdue(ORIGIN_CARRIER, "count")


def _hour(request: Columns) -> Int64Array:
    departure: Int64Array = request["scheduled_departure_us"]
    return departure - departure % HOUR


ORIGIN_SCHEDULE = CalendarView(
    name="origin_schedule",
    source=SCHEDULED,
    entity=ORIGIN,
    at="scheduled_departure_us",
    reach=timedelta(hours=12),
    ahead=timedelta(hours=48),
    spans=(
        Span(
            name="same_hour",
            start=_hour,
            end=lambda request: _hour(request) + HOUR,
            reads=("scheduled_departure_us",),
        ),
        Span(
            name="three_hours_before",
            start=lambda request: _hour(request) - 3 * HOUR,
            end=_hour,
            reads=("scheduled_departure_us",),
        ),
    ),
    aggregations=(Aggregation(operation="count"),),
)
ORIGIN_WEATHER = FeatureView(
    name="origin_weather",
    source=WEATHER,
    entity=ORIGIN,
    columns=(PRECIPITATION,),
    aggregations=(
        *(
            Aggregation(operation="last", column=column, windows=(H6,))
            for column in (
                "temperature_f",
                "dew_point_f",
                "humidity_percent",
                "wind_direction_degrees",
                "wind_speed_mph",
                "wind_gust_mph",
                "precipitation_inches",
                "pressure_mbar",
                "visibility_miles",
            )
        ),
        Aggregation(operation="sum", column="precipitation_inches", windows=(H3,)),
        Aggregation(operation="change", column="pressure_mbar", windows=(H3,)),
        Aggregation(operation="min", column="visibility_miles", windows=(H3,)),
        Aggregation(operation="since_last", windows=(H6,)),
    ),
)

ALL = (
    ORIGIN_SCHEDULE,
    ORIGIN_WEATHER,
    ORIGIN_DEPARTURES,
    CARRIER_DEPARTURES,
    ORIGIN_CARRIER_DEPARTURES,
    DEST_LANDINGS,
    CARRIER_LANDINGS,
    ROUTE_LANDINGS,
    FLIGHT_NUMBER_LANDINGS,
    ORIGIN_CANCELLATIONS,
    ORIGIN_OVERDUE,
    ORIGIN_CARRIER_OVERDUE,
    PREVIOUS_LEG,
    AIRCRAFT_DEPARTURES,
    AIRCRAFT_REGISTER,
)

"""The events of a flight and of the weather. Times are microseconds since 1970 UTC.

Every integer has bounds: a JSON number beyond 64 bits would otherwise pass the decoder and spoil
its whole batch later.
"""

from typing import Annotated

from msgspec import Meta, Struct

from features.definitions import PRINTABLE, Check, EventType

Id = Annotated[str, Meta(min_length=1, max_length=100), PRINTABLE]
Code = Annotated[str, Meta(min_length=1, max_length=10), PRINTABLE]
TimeUs = Annotated[int, Meta(ge=631_152_000_000_000, le=4_102_444_800_000_000)]  # 1990 to 2100
DelayMinutes = Annotated[int, Meta(ge=-1_440, le=4_320)]
Miles = Annotated[int, Meta(ge=0, le=20_000)]
MinuteOfDay = Annotated[int, Meta(ge=0, le=1_439)]
Weekday = Annotated[int, Meta(ge=1, le=7)]
Reading = Annotated[float, Meta(ge=-10_000, le=10_000)]


def _at_most(field: str, limit: float) -> Check:
    return Check(
        name=f"{field} at most {limit}",
        holds=lambda events: events[field] <= limit,
        reads=(field,),
        on_failure="nullify",
        field=field,
    )


class OfFlight(Struct, frozen=True, kw_only=True, gc=False):
    """What every event of a flight says."""

    event_id: Id
    event_time_us: TimeUs
    flight_id: Id
    carrier: Code
    flight: Annotated[int, Meta(ge=0, le=99_999)]
    origin: Code
    dest: Code


class OfAircraft(OfFlight, frozen=True, kw_only=True, gc=False):
    """And what it says where the aircraft is known."""

    tailnum: Code | None  # null only for some flights that are cancelled later


class FlightScheduled(OfAircraft, frozen=True, kw_only=True, gc=False):
    """The timetable says that a flight will leave. Published a day before its departure."""

    distance_miles: Miles
    scheduled_departure_us: TimeUs
    scheduled_arrival_us: TimeUs
    local_minute: MinuteOfDay  # of the scheduled departure, on the clock of its airport
    weekday: Weekday  # of the scheduled departure there, Monday = 1


class ForecastRequested(FlightScheduled, frozen=True, kw_only=True, gc=False):
    """The airline asks for a prediction, 60 minutes before the scheduled departure.

    `event_time_us` is the decision time: the prediction uses what was known before it. What is
    known of the flight then is what was scheduled.
    """


class FlightDeparted(OfAircraft, frozen=True, kw_only=True, gc=False):
    """A flight left its gate."""

    departure_delay_minutes: DelayMinutes  # negative: early


class FlightLanded(OfAircraft, frozen=True, kw_only=True, gc=False):
    """A flight reached its gate."""

    arrival_delay_minutes: DelayMinutes  # negative: early
    air_time_minutes: Annotated[int, Meta(ge=0, le=2_000)] | None


class FlightCancelled(OfFlight, frozen=True, kw_only=True, gc=False):
    """A flight will not leave. The source has no time for it: the scheduled departure stands in."""

    tailnum: Code | None = None  # the aircraft that would have flown, where it is known


class FlightDiverted(OfAircraft, frozen=True, kw_only=True, gc=False):
    """A flight came down elsewhere: neither late nor on time."""


class WeatherObserved(Struct, frozen=True, kw_only=True, gc=False):
    """The hourly observation at an airport, made at 51 past and published 4 minutes later."""

    event_id: Id
    event_time_us: TimeUs
    origin: Code
    temperature_f: Reading | None
    dew_point_f: Reading | None
    humidity_percent: Reading | None
    wind_direction_degrees: Reading | None
    wind_speed_mph: Reading | None
    wind_gust_mph: Reading | None
    precipitation_inches: Reading | None
    pressure_mbar: Reading | None
    visibility_miles: Reading | None


class AircraftRegistered(Struct, frozen=True, kw_only=True, gc=False):
    """An aircraft stands in the register."""

    event_id: Id
    event_time_us: TimeUs
    tailnum: Code
    seats: Annotated[int, Meta(ge=0, le=1_000)] | None
    built_year: Annotated[int, Meta(ge=1_900, le=2_100)] | None


SCHEDULED = EventType(name="flight.scheduled", record=FlightScheduled, key="flight_id")
REQUESTED = EventType(name="flight.forecast_requested", record=ForecastRequested, key="flight_id")
DEPARTED = EventType(name="flight.departed", record=FlightDeparted, key="flight_id")
LANDED = EventType(name="flight.landed", record=FlightLanded, key="flight_id")
CANCELLED = EventType(name="flight.cancelled", record=FlightCancelled, key="flight_id")
DIVERTED = EventType(name="flight.diverted", record=FlightDiverted, key="flight_id")
REGISTERED = EventType(name="aircraft.registered", record=AircraftRegistered, key="tailnum")
WEATHER = EventType(
    name="weather.observed",
    record=WeatherObserved,
    key="origin",
    checks=(
        _at_most("wind_speed_mph", 100),  # the record of 2013 has one of 1,048
        _at_most("wind_gust_mph", 120),
    ),
)

ALL = (SCHEDULED, REQUESTED, DEPARTED, LANDED, CANCELLED, DIVERTED, WEATHER, REGISTERED)

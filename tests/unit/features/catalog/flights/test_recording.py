"""The recording says what the CSV files say, with their traps taken care of."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from functools import cache
from typing import Any

import msgspec
import polars as pl
import pytest

from features.catalog.flights import events
from features.catalog.flights.recording import MISSING_ZONES, NEW_YORK
from features.definitions import EventType
from infra.clock import HOUR, MINUTE
from tests.support.data.recordings import flights, flights_source

COUNTS = {
    "flight.scheduled": 336_776,
    "flight.forecast_requested": 336_776,
    "flight.departed": 328_521,
    "flight.landed": 327_346,
    "flight.cancelled": 8_255,
    "flight.diverted": 1_175,
    "weather.observed": 26_115,
    "aircraft.registered": 3_322,
}


@cache
def _decoded(event: EventType) -> pl.DataFrame:
    found = flights().filter(event=event.name)
    rows = found["payload"].cast(pl.String).str.json_decode(infer_schema_length=None)
    return rows.struct.unnest().with_columns(known_at_us=found["known_at_us"])


@pytest.fixture(scope="module")
def scheduled() -> pl.DataFrame:
    return _decoded(events.SCHEDULED)


def test_every_flight_and_observation_is_there_once() -> None:
    found = flights()
    assert dict(found["event"].value_counts().iter_rows()) == COUNTS
    assert found["event_id"].n_unique() == len(found)


def test_the_order_is_that_of_emission() -> None:
    assert flights()["known_at_us"].is_sorted()


@pytest.mark.parametrize("event", events.ALL, ids=lambda e: e.name)
def test_every_payload_fits_its_record_and_names_its_key(event: EventType) -> None:
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(event.record).decode
    found = flights().filter(event=event.name)
    for key, event_id, payload in found.select("key", "event_id", "payload").iter_rows():
        record = decode(payload)
        assert (getattr(record, event.key), record.event_id) == (key, event_id)


def test_departures_are_where_the_delay_puts_them(scheduled: pl.DataFrame) -> None:
    both = _decoded(events.DEPARTED).join(
        scheduled.select("flight_id", "scheduled_departure_us"), on="flight_id"
    )
    off = (
        both["event_time_us"]
        - both["scheduled_departure_us"]
        - both["departure_delay_minutes"] * MINUTE
    )
    assert len(both) == COUNTS["flight.departed"]
    assert (off == 0).all()


@pytest.fixture(scope="module")
def source() -> pl.DataFrame:
    """The flights as the source has them, with the zone of the destination and our id."""
    with tarfile.open(flights_source()) as archive:
        members = {m.name.rsplit("/", 1)[-1]: m for m in archive.getmembers()}
        zipped, airports = (
            io.BytesIO(archive.extractfile(members[name]).read())  # type: ignore[union-attr]
            for name in ("flights.csv.zip", "airports.csv")
        )
    zones = dict(pl.read_csv(airports).select("faa", "tzone").iter_rows()) | MISSING_ZONES
    found = pl.read_csv(
        zipfile.ZipFile(zipped).read("flights.csv"), null_values="NA", infer_schema_length=None
    )
    day = pl.date("year", "month", "day").dt.strftime("%Y%m%d")
    return found.select(
        pl.format("{}-{}-{}-{}", "carrier", "flight", "origin", day).alias("flight_id"),
        "dep_time",
        "arr_time",
        zone=pl.col("dest").replace_strict(zones),
    )


def _off_the_clock(event: EventType, source: pl.DataFrame, clock: str, zone: str | None) -> int:
    """For how many events the local time of day is not what the source's clock says."""
    both = flights().filter(event=event.name).join(source, left_on="key", right_on="flight_id")
    assert len(both) == COUNTS[event.name]
    moment = pl.from_epoch("known_at_us", time_unit="us").dt.replace_time_zone("UTC")
    minutes = (pl.col(clock) // 100 * 60 + pl.col(clock) % 100) % 1_440  # 2400 is midnight
    return sum(
        int(
            part.select(local=moment.dt.convert_time_zone(zone or str(name)), clock=minutes)
            .select(
                pl.col("local").dt.hour().cast(pl.Int64) * 60 + pl.col("local").dt.minute()
                != pl.col("clock")
            )
            .to_series()
            .sum()
        )
        for (name,), part in both.group_by("zone")
    )


def test_departures_show_the_clock_of_the_source(source: pl.DataFrame) -> None:
    assert _off_the_clock(events.DEPARTED, source, "dep_time", NEW_YORK) == 0


def test_landings_show_the_clock_of_the_source_but_for_one(source: pl.DataFrame) -> None:
    # In the night of 9 to 10 March, when clocks changed, the source is one hour off.
    assert _off_the_clock(events.LANDED, source, "arr_time", None) == 1


def test_no_flight_has_left_when_its_forecast_is_asked_for(scheduled: pl.DataFrame) -> None:
    departed = _decoded(events.DEPARTED).join(
        scheduled.select("flight_id", "scheduled_departure_us"), on="flight_id"
    )
    early = departed["scheduled_departure_us"] - departed["known_at_us"]
    assert early.max() < HOUR  # type: ignore[operator]


def test_gate_to_gate_takes_longer_than_the_air_time() -> None:
    both = _decoded(events.DEPARTED).join(_decoded(events.LANDED), on="flight_id", suffix="_landed")
    taxi = (both["event_time_us_landed"] - both["event_time_us"]) / MINUTE - both[
        "air_time_minutes"
    ]
    assert taxi.min() == 5
    assert taxi.max() == 235


def test_a_forecast_is_asked_for_an_hour_before_departure(scheduled: pl.DataFrame) -> None:
    asked = _decoded(events.REQUESTED)
    assert (asked["scheduled_departure_us"] - asked["event_time_us"] == HOUR).all()
    assert set(asked["flight_id"]) == set(scheduled["flight_id"])


def test_weather_is_told_four_minutes_after_it_was_observed() -> None:
    weather = flights().filter(event="weather.observed")
    times = [msgspec.json.decode(p)["event_time_us"] for p in weather["payload"]]
    assert (weather["known_at_us"] - pl.Series(times) == 4 * MINUTE).all()
    # 01:00 comes twice on the third of November, so hours are told apart in UTC.
    assert weather["event_id"].n_unique() == COUNTS["weather.observed"]


def test_nothing_else_is_told_before_or_after_it_happens() -> None:
    for event in events.ALL:
        if event is not events.WEATHER:
            found = _decoded(event)
            assert (found["known_at_us"] == found["event_time_us"]).all()

"""The recording holds what the CSV files hold, with their irregularities handled."""

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
    recorded = flights().filter(event=event.name)
    rows = recorded["payload"].cast(pl.String).str.json_decode(infer_schema_length=None)
    return rows.struct.unnest().with_columns(known_at_us=recorded["known_at_us"])


@pytest.fixture(scope="module")
def scheduled() -> pl.DataFrame:
    return _decoded(events.SCHEDULED)


def test_every_flight_and_observation_is_recorded_once() -> None:
    recorded = flights()
    assert dict(recorded["event"].value_counts().iter_rows()) == COUNTS
    assert recorded["event_id"].n_unique() == len(recorded)


def test_events_are_in_the_order_of_emission() -> None:
    assert flights()["known_at_us"].is_sorted()


@pytest.mark.parametrize("event", events.ALL, ids=lambda e: e.name)
def test_every_payload_fits_its_record_and_names_its_key(event: EventType) -> None:
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(event.record).decode
    recorded = flights().filter(event=event.name)
    for key, event_id, payload in recorded.select("key", "event_id", "payload").iter_rows():
        record = decode(payload)
        assert (getattr(record, event.key), record.event_id) == (key, event_id)


def test_departure_times_are_the_schedule_plus_the_delay(scheduled: pl.DataFrame) -> None:
    joined = _decoded(events.DEPARTED).join(
        scheduled.select("flight_id", "scheduled_departure_us"), on="flight_id"
    )
    difference = (
        joined["event_time_us"]
        - joined["scheduled_departure_us"]
        - joined["departure_delay_minutes"] * MINUTE
    )
    assert len(joined) == COUNTS["flight.departed"]
    assert (difference == 0).all()


@pytest.fixture(scope="module")
def source() -> pl.DataFrame:
    """The flights of the source, with the zone of the destination and our flight id."""
    with tarfile.open(flights_source()) as archive:
        members = {m.name.rsplit("/", 1)[-1]: m for m in archive.getmembers()}
        zipped, airports = (
            io.BytesIO(archive.extractfile(members[name]).read())  # type: ignore[union-attr]
            for name in ("flights.csv.zip", "airports.csv")
        )
    zones = dict(pl.read_csv(airports).select("faa", "tzone").iter_rows()) | MISSING_ZONES
    rows = pl.read_csv(
        zipfile.ZipFile(zipped).read("flights.csv"), null_values="NA", infer_schema_length=None
    )
    day = pl.date("year", "month", "day").dt.strftime("%Y%m%d")
    return rows.select(
        pl.format("{}-{}-{}-{}", "carrier", "flight", "origin", day).alias("flight_id"),
        "dep_time",
        "arr_time",
        zone=pl.col("dest").replace_strict(zones),
    )


def _off_the_clock(event: EventType, source: pl.DataFrame, clock: str, zone: str | None) -> int:
    """The number of events whose local time of day differs from the source's clock."""
    joined = flights().filter(event=event.name).join(source, left_on="key", right_on="flight_id")
    assert len(joined) == COUNTS[event.name]
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
        for (name,), part in joined.group_by("zone")
    )


def test_departure_times_match_the_clock_of_the_source(source: pl.DataFrame) -> None:
    assert _off_the_clock(events.DEPARTED, source, "dep_time", NEW_YORK) == 0


def test_landing_times_match_the_clock_of_the_source_except_one(source: pl.DataFrame) -> None:
    # In the night of 9 to 10 March, when clocks changed, the source is one hour off.
    assert _off_the_clock(events.LANDED, source, "arr_time", None) == 1


def test_no_flight_departs_before_its_prediction_is_requested(scheduled: pl.DataFrame) -> None:
    departed = _decoded(events.DEPARTED).join(
        scheduled.select("flight_id", "scheduled_departure_us"), on="flight_id"
    )
    early = departed["scheduled_departure_us"] - departed["known_at_us"]
    assert early.max() < HOUR  # type: ignore[operator]


def test_gate_to_gate_takes_longer_than_the_air_time() -> None:
    joined = _decoded(events.DEPARTED).join(
        _decoded(events.LANDED), on="flight_id", suffix="_landed"
    )
    taxi = (joined["event_time_us_landed"] - joined["event_time_us"]) / MINUTE - joined[
        "air_time_minutes"
    ]
    assert taxi.min() == 5
    assert taxi.max() == 235


def test_a_prediction_is_requested_an_hour_before_departure(scheduled: pl.DataFrame) -> None:
    requests = _decoded(events.REQUESTED)
    assert (requests["scheduled_departure_us"] - requests["event_time_us"] == HOUR).all()
    assert set(requests["flight_id"]) == set(scheduled["flight_id"])


def test_weather_is_reported_four_minutes_after_its_observation() -> None:
    weather = flights().filter(event="weather.observed")
    times = [msgspec.json.decode(p)["event_time_us"] for p in weather["payload"]]
    assert (weather["known_at_us"] - pl.Series(times) == 4 * MINUTE).all()
    # 01:00 occurs twice on the third of November, so hours are distinguished in UTC.
    assert weather["event_id"].n_unique() == COUNTS["weather.observed"]


def test_every_other_event_is_reported_when_it_happens() -> None:
    for event in events.ALL:
        if event is not events.WEATHER:
            rows = _decoded(event)
            assert (rows["known_at_us"] == rows["event_time_us"]).all()

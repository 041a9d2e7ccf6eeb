"""The declared features of real flights equal those of plain loops over their events."""

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.catalog import event_types
from features.catalog.flights.services import FLIGHT_DELAY, LATE_15
from features.engine.columns import kinds
from features.retrieval.historical import training_rows
from features.stores.memory import MemoryOfflineStore
from features.stores.ports import EventBatch
from infra.clock import DAY, HOUR, MINUTE
from infra.kafka.partitions import Partition
from tests.support.data.recordings import flights

pytestmark = pytest.mark.slow

UNTIL_US = 1_358_899_200_000_000  # 23 January 2013
FROM_US = UNTIL_US - 5 * DAY
SAMPLE = 120
NOTHING = math.nan
Row = dict[str, Any]
_TYPES: dict[str, Any] = {
    "int": pl.Int64,
    "nullable_int": pl.Int64,
    "float": pl.Float64,
    "text": pl.String,
}


@cache
def events() -> dict[str, list[Row]]:
    """The events known before the end, by event type, with `known_us`."""
    return {name: frame.rename({"known_at_us": "known_us"}).to_dicts() for name, frame in _frames()}


@cache
def sample() -> list[tuple[Row, Row]]:
    """A sample of flights: (the scheduled event, its row of features)."""
    store = MemoryOfflineStore()
    by_name = {e.name: e for e in event_types()}
    for name, frame in _frames():
        n, partition = frame.height, Partition(name, 0)
        placed = frame.with_columns(
            ingest_time_us=pl.col("known_at_us"),
            partition=pl.lit(0, pl.Int64),
            offset=pl.int_range(n, dtype=pl.Int64),
        )
        columns: dict[str, Any] = {c: placed[c] for c in placed.columns}
        store.append(
            EventBatch(
                event=by_name[name], columns=columns, starts={partition: 0}, ends={partition: n}
            )
        )
    training = training_rows(
        FLIGHT_DELAY, LATE_15, store, start_us=FROM_US, end_us=UNTIL_US, known_before_us=UNTIL_US
    ).frame.sample(SAMPLE, seed=7)
    scheduled = {e["flight_id"]: e for e in events()["flight.scheduled"]}
    return [(scheduled[r["entity_id"]], r) for r in training.iter_rows(named=True)]


def _frames() -> Iterator[tuple[str, pl.DataFrame]]:
    recorded = flights().filter(pl.col("known_at_us") < UNTIL_US)
    for event in event_types():
        of_type = recorded.filter(pl.col("event") == event.name)
        if of_type.is_empty():
            continue
        fields = pl.Struct({f: _TYPES[kind] for f, kind in kinds(event.record).items()})
        payload = of_type["payload"].cast(pl.String).str.json_decode(fields)
        yield event.name, payload.struct.unnest().with_columns(of_type["known_at_us"])


def as_of(flight: Row) -> int:
    return int(flight["scheduled_departure_us"]) - HOUR


def known(event: str, flight: Row, *shared: str) -> list[Row]:
    """Events of that type known at decision time that share these fields with the flight."""
    about = _about(event, shared).get(tuple(flight[k] for k in shared), [])
    return [e for e in about if e["known_us"] < as_of(flight)]


@cache
def _about(event: str, shared: tuple[str, ...]) -> dict[tuple[Any, ...], list[Row]]:
    by_fields: dict[tuple[Any, ...], list[Row]] = {}
    for e in events()[event]:
        by_fields.setdefault(tuple(e[k] for k in shared), []).append(e)
    return by_fields


def assert_all(name: str, expected: Callable[[Row], float]) -> None:
    for flight, row in sample():
        value, expected_value = row[name], expected(flight)
        same = value == expected_value or (math.isnan(value) and math.isnan(expected_value))
        assert same or value == pytest.approx(expected_value, abs=1e-9), (name, flight["flight_id"])


LATENESS = [
    ("origin_departures", "flight.departed", ("origin",), "departure", ("1h", "3h", "24h", "7d")),
    ("carrier_departures", "flight.departed", ("carrier",), "departure", ("1h", "3h", "24h", "7d")),
    (
        "origin_carrier_departures",
        "flight.departed",
        ("origin", "carrier"),
        "departure",
        ("1h", "3h", "24h"),
    ),
    ("dest_landings", "flight.landed", ("dest",), "arrival", ("3h", "24h", "7d")),
    ("carrier_landings", "flight.landed", ("carrier",), "arrival", ("3h", "24h")),
    ("route_landings", "flight.landed", ("origin", "dest"), "arrival", ("24h", "7d")),
    ("flight_number_landings", "flight.landed", ("carrier", "flight"), "arrival", ("7d",)),
]
SPANS = {"1h": HOUR, "3h": 3 * HOUR, "24h": DAY, "7d": 7 * DAY}


@pytest.mark.parametrize(
    ("view", "event", "shared", "movement", "windows"), LATENESS, ids=[c[0] for c in LATENESS]
)
def test_lateness_features_summarize_the_events_in_the_window(
    view: str, event: str, shared: tuple[str, ...], movement: str, windows: tuple[str, ...]
) -> None:
    for flight, row in sample():
        known_events = known(event, flight, *shared)
        for window in windows:
            since = as_of(flight) - SPANS[window]
            delays = [
                e[f"{movement}_delay_minutes"] for e in known_events if e["event_time_us"] >= since
            ]
            clipped = [min(240, max(-60, d)) for d in delays]
            mean = sum(clipped) / len(clipped) if clipped else NOTHING
            late = sum(d >= 15 for d in delays) / len(delays) if delays else NOTHING
            values = [
                row[f"{view}_{name}_{window}"] for name in ("count", "mean_delay", "rate_late15")
            ]
            assert np.array_equal(values, [len(delays), mean, late], equal_nan=True)


def test_cancellations_are_counted() -> None:
    for window, span in (("3h", 3 * HOUR), ("24h", DAY)):
        assert_all(
            f"origin_cancellations_count_{window}",
            lambda f, span=span: sum(  # type: ignore[misc]
                e["event_time_us"] >= as_of(f) - span
                for e in known("flight.cancelled", f, "origin")
            ),
        )


def test_scheduled_departures_around_the_departure_are_counted() -> None:
    def planned(flight: Row, first: int, last: int) -> int:
        hour = flight["scheduled_departure_us"] // HOUR * HOUR
        schedules = known("flight.scheduled", flight, "origin")
        return sum(hour + first <= e["scheduled_departure_us"] < hour + last for e in schedules)

    assert_all("origin_schedule_count_same_hour", lambda f: planned(f, 0, HOUR))
    assert_all("origin_schedule_count_three_hours_before", lambda f: planned(f, -3 * HOUR, 0))


@pytest.mark.parametrize(
    ("view", "shared"),
    [("origin_overdue", ("origin",)), ("origin_carrier_overdue", ("origin", "carrier"))],
)
def test_overdue_flights_are_scheduled_and_neither_departed_nor_cancelled(
    view: str, shared: tuple[str, ...]
) -> None:
    def overdue_minutes(flight: Row) -> list[float]:
        t = as_of(flight)
        left_or_cancelled = {
            e["flight_id"]
            for name in ("flight.departed", "flight.cancelled")
            for e in known(name, flight, *shared)
        }
        due = {
            e["flight_id"]: e["scheduled_departure_us"]
            for e in known("flight.scheduled", flight, *shared)
        }
        return [
            (t - d) / MINUTE
            for i, d in due.items()
            if i not in left_or_cancelled and t - 6 * HOUR <= d < t
        ]

    waiting = {flight["flight_id"]: overdue_minutes(flight) for flight, _ in sample()}
    assert_all(f"{view}_count", lambda f: len(waiting[f["flight_id"]]))
    if view == "origin_overdue":
        assert_all(
            "origin_overdue_mean_minutes",
            lambda f: (
                sum(minutes) / len(minutes) if (minutes := waiting[f["flight_id"]]) else NOTHING
            ),
        )


def test_weather_features_come_from_the_newest_observation_and_the_hours_before() -> None:
    def observed(flight: Row, hours: int) -> list[Row]:
        observations = known("weather.observed", flight, "origin")
        near = [e for e in observations if e["event_time_us"] >= as_of(flight) - hours * HOUR]
        return sorted(near, key=lambda e: e["event_time_us"])

    def last(flight: Row, field: str) -> float:
        observations = observed(flight, 6)
        value = observations[-1][field] if observations else None
        limits = {"wind_speed_mph": 100, "wind_gust_mph": 120}
        if value is None or value > limits.get(field, math.inf):
            return NOTHING
        return float(value)

    def change(flight: Row) -> float:
        pressures = [e["pressure_mbar"] for e in observed(flight, 3)]
        return (
            pressures[-1] - pressures[0]
            if pressures and None not in (pressures[-1], pressures[0])
            else NOTHING
        )

    def rain(flight: Row) -> float:
        return sum(round(100 * (e["precipitation_inches"] or 0)) for e in observed(flight, 3)) / 100

    def worst_view(flight: Row) -> float:
        visibilities = [e["visibility_miles"] for e in observed(flight, 3)]
        return min((v for v in visibilities if v is not None), default=NOTHING)

    def age(flight: Row) -> float:
        observations = observed(flight, 6)
        return (
            (as_of(flight) - observations[-1]["event_time_us"]) / MINUTE
            if observations
            else NOTHING
        )

    for field in ("temperature_f", "wind_speed_mph", "wind_gust_mph", "pressure_mbar"):
        assert_all(f"origin_weather_last_{field}_6h", lambda f, field=field: last(f, field))  # type: ignore[misc]
    assert_all("origin_weather_change_pressure_mbar_3h", change)
    assert_all("origin_weather_sum_precipitation_inches_3h", rain)
    assert_all("origin_weather_min_visibility_miles_3h", worst_view)
    assert_all("origin_weather_since_last_6h", age)


def test_the_previous_leg_is_the_last_known_flight_that_is_not_cancelled() -> None:
    def leg(flight: Row) -> Row | None:
        mine = flight["scheduled_departure_us"]
        if flight["tailnum"] is None:
            return None
        cancelled = {e["flight_id"] for e in known("flight.cancelled", flight, "tailnum")}
        legs = [
            e
            for e in known("flight.scheduled", flight, "tailnum")
            if mine - 18 * HOUR <= e["scheduled_departure_us"] < mine
            and e["flight_id"] not in cancelled
        ]
        return max(legs, key=lambda e: e["scheduled_departure_us"], default=None)

    def event_of_leg(flight: Row, event: str) -> Row | None:
        previous = leg(flight)
        events_of_aircraft = known(event, flight, "tailnum") if previous else []
        return next(
            (e for e in events_of_aircraft if previous and e["flight_id"] == previous["flight_id"]),
            None,
        )

    def overdue(flight: Row) -> int:
        previous = leg(flight)
        return (as_of(flight) - previous["scheduled_departure_us"]) // MINUTE if previous else 0

    def state(flight: Row) -> float:
        if leg(flight) is None:
            return NOTHING
        if event_of_leg(flight, "flight.landed"):
            return 3
        return 2 if event_of_leg(flight, "flight.departed") else int(overdue(flight) > 0)

    def delay(flight: Row) -> float:
        landed, departed = (
            event_of_leg(flight, "flight.landed"),
            event_of_leg(flight, "flight.departed"),
        )
        if landed:
            return float(min(400, max(-60, landed["arrival_delay_minutes"])))
        if departed:
            return float(min(400, max(-60, departed["departure_delay_minutes"])))
        return min(400, overdue(flight)) if overdue(flight) > 0 else NOTHING

    def slack(flight: Row) -> float:
        previous, landed = leg(flight), event_of_leg(flight, "flight.landed")
        if previous is None:
            return NOTHING
        delay_minutes = 0 if math.isnan(delay(flight)) else delay(flight)
        flying = (previous["scheduled_arrival_us"] - previous["scheduled_departure_us"]) // MINUTE
        ready = (
            landed["event_time_us"]
            if landed
            else previous["scheduled_arrival_us"] + delay_minutes * MINUTE
        )
        available = (flight["scheduled_departure_us"] - ready) // MINUTE
        return float(min(900, max(-400, available - flying - 45)))

    assert_all("previous_leg_known", lambda f: float(leg(f) is not None))
    assert_all("previous_leg_state", state)
    assert_all("previous_leg_delay_minutes", delay)
    assert_all("previous_leg_slack_minutes", slack)
    assert len({row["previous_leg_state"] for _, row in sample()}) >= 4


def test_aircraft_features_come_from_its_departures_and_the_register() -> None:
    def legs(flight: Row) -> int:
        departures = known("flight.departed", flight, "tailnum") if flight["tailnum"] else []
        return sum(e["event_time_us"] >= as_of(flight) - DAY for e in departures)

    def registered(flight: Row, field: str) -> float:
        registrations = known("aircraft.registered", flight, "tailnum")
        return (
            NOTHING
            if not registrations or registrations[0][field] is None
            else float(registrations[0][field])
        )

    assert_all("aircraft_departures_count_24h", legs)
    assert_all("aircraft_register_last_seats", lambda f: registered(f, "seats"))
    assert_all("aircraft_register_last_built_year", lambda f: registered(f, "built_year"))

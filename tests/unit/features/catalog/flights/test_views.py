"""The declared features of real flights are what plain loops over their events say."""

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
    """What was told before the end, by event type, with `known_us`."""
    return {name: frame.rename({"known_at_us": "known_us"}).to_dicts() for name, frame in _frames()}


@cache
def sample() -> list[tuple[Row, Row]]:
    """Some flights: (what was scheduled, the features that were declared for it)."""
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
    found = training_rows(
        FLIGHT_DELAY, LATE_15, store, start_us=FROM_US, end_us=UNTIL_US, known_before_us=UNTIL_US
    ).frame.sample(SAMPLE, seed=7)
    scheduled = {e["flight_id"]: e for e in events()["flight.scheduled"]}
    return [(scheduled[r["entity_id"]], r) for r in found.iter_rows(named=True)]


def _frames() -> Iterator[tuple[str, pl.DataFrame]]:
    recorded = flights().filter(pl.col("known_at_us") < UNTIL_US)
    for event in event_types():
        told = recorded.filter(pl.col("event") == event.name)
        if told.is_empty():
            continue
        fields = pl.Struct({f: _TYPES[kind] for f, kind in kinds(event.record).items()})
        payload = told["payload"].cast(pl.String).str.json_decode(fields)
        yield event.name, payload.struct.unnest().with_columns(told["known_at_us"])


def as_of(flight: Row) -> int:
    return int(flight["scheduled_departure_us"]) - HOUR


def known(event: str, flight: Row, *shared: str) -> list[Row]:
    """Events of that type known at decision time that share these fields with the flight."""
    about = _about(event, shared).get(tuple(flight[k] for k in shared), [])
    return [e for e in about if e["known_us"] < as_of(flight)]


@cache
def _about(event: str, shared: tuple[str, ...]) -> dict[tuple[Any, ...], list[Row]]:
    found: dict[tuple[Any, ...], list[Row]] = {}
    for e in events()[event]:
        found.setdefault(tuple(e[k] for k in shared), []).append(e)
    return found


def assert_all(name: str, expected: Callable[[Row], float]) -> None:
    for flight, row in sample():
        found, wanted = row[name], expected(flight)
        same = found == wanted or (math.isnan(found) and math.isnan(wanted))
        assert same or found == pytest.approx(wanted, abs=1e-9), (name, flight["flight_id"])


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
    ("view", "event", "shared", "what", "windows"), LATENESS, ids=[c[0] for c in LATENESS]
)
def test_lateness_is_that_of_the_events_in_the_window(
    view: str, event: str, shared: tuple[str, ...], what: str, windows: tuple[str, ...]
) -> None:
    for flight, row in sample():
        told = known(event, flight, *shared)
        for window in windows:
            since = as_of(flight) - SPANS[window]
            delays = [e[f"{what}_delay_minutes"] for e in told if e["event_time_us"] >= since]
            clipped = [min(240, max(-60, d)) for d in delays]
            mean = sum(clipped) / len(clipped) if clipped else NOTHING
            late = sum(d >= 15 for d in delays) / len(delays) if delays else NOTHING
            found = [
                row[f"{view}_{name}_{window}"] for name in ("count", "mean_delay", "rate_late15")
            ]
            assert np.array_equal(found, [len(delays), mean, late], equal_nan=True)


def test_cancellations_are_counted() -> None:
    for window, span in (("3h", 3 * HOUR), ("24h", DAY)):
        assert_all(
            f"origin_cancellations_count_{window}",
            lambda f, span=span: sum(  # type: ignore[misc]
                e["event_time_us"] >= as_of(f) - span
                for e in known("flight.cancelled", f, "origin")
            ),
        )


def test_the_schedule_around_the_departure_is_counted() -> None:
    def planned(flight: Row, first: int, last: int) -> int:
        hour = flight["scheduled_departure_us"] // HOUR * HOUR
        told = known("flight.scheduled", flight, "origin")
        return sum(hour + first <= e["scheduled_departure_us"] < hour + last for e in told)

    assert_all("origin_schedule_count_same_hour", lambda f: planned(f, 0, HOUR))
    assert_all("origin_schedule_count_three_hours_before", lambda f: planned(f, -3 * HOUR, 0))


@pytest.mark.parametrize(
    ("view", "shared"),
    [("origin_overdue", ("origin",)), ("origin_carrier_overdue", ("origin", "carrier"))],
)
def test_what_is_overdue_is_scheduled_and_neither_departed_nor_cancelled(
    view: str, shared: tuple[str, ...]
) -> None:
    def waiting(flight: Row) -> list[float]:
        t = as_of(flight)
        gone = {
            e["flight_id"]
            for name in ("flight.departed", "flight.cancelled")
            for e in known(name, flight, *shared)
        }
        due = {
            e["flight_id"]: e["scheduled_departure_us"]
            for e in known("flight.scheduled", flight, *shared)
        }
        return [(t - d) / MINUTE for i, d in due.items() if i not in gone and t - 6 * HOUR <= d < t]

    assert_all(f"{view}_count", lambda f: len(waiting(f)))
    if view == "origin_overdue":
        assert_all(
            "origin_overdue_mean_minutes",
            lambda f: sum(waiting(f)) / len(waiting(f)) if waiting(f) else NOTHING,
        )


def test_weather_is_that_of_the_newest_observation_and_of_the_hours_before() -> None:
    def observed(flight: Row, hours: int) -> list[Row]:
        told = known("weather.observed", flight, "origin")
        near = [e for e in told if e["event_time_us"] >= as_of(flight) - hours * HOUR]
        return sorted(near, key=lambda e: e["event_time_us"])

    def last(flight: Row, field: str) -> float:
        told = observed(flight, 6)
        value = told[-1][field] if told else None
        unbelievable = {"wind_speed_mph": 100, "wind_gust_mph": 120}
        if value is None or value > unbelievable.get(field, math.inf):
            return NOTHING
        return float(value)

    def change(flight: Row) -> float:
        told = [e["pressure_mbar"] for e in observed(flight, 3)]
        return told[-1] - told[0] if told and None not in (told[-1], told[0]) else NOTHING

    def rain(flight: Row) -> float:
        return sum(round(100 * (e["precipitation_inches"] or 0)) for e in observed(flight, 3)) / 100

    def worst_view(flight: Row) -> float:
        seen = [e["visibility_miles"] for e in observed(flight, 3)]
        return min((v for v in seen if v is not None), default=NOTHING)

    def age(flight: Row) -> float:
        told = observed(flight, 6)
        return (as_of(flight) - told[-1]["event_time_us"]) / MINUTE if told else NOTHING

    for field in ("temperature_f", "wind_speed_mph", "wind_gust_mph", "pressure_mbar"):
        assert_all(f"origin_weather_last_{field}_6h", lambda f, field=field: last(f, field))  # type: ignore[misc]
    assert_all("origin_weather_change_pressure_mbar_3h", change)
    assert_all("origin_weather_sum_precipitation_inches_3h", rain)
    assert_all("origin_weather_min_visibility_miles_3h", worst_view)
    assert_all("origin_weather_since_last_6h", age)


def test_the_previous_leg_is_the_last_one_known_and_not_known_to_be_cancelled() -> None:
    def leg(flight: Row) -> Row | None:
        mine = flight["scheduled_departure_us"]
        if flight["tailnum"] is None:
            return None
        gone = {e["flight_id"] for e in known("flight.cancelled", flight, "tailnum")}
        legs = [
            e
            for e in known("flight.scheduled", flight, "tailnum")
            if mine - 18 * HOUR <= e["scheduled_departure_us"] < mine and e["flight_id"] not in gone
        ]
        return max(legs, key=lambda e: e["scheduled_departure_us"], default=None)

    def told(flight: Row, event: str) -> Row | None:
        found = leg(flight)
        about = known(event, flight, "tailnum") if found else []
        return next((e for e in about if found and e["flight_id"] == found["flight_id"]), None)

    def overdue(flight: Row) -> int:
        found = leg(flight)
        return (as_of(flight) - found["scheduled_departure_us"]) // MINUTE if found else 0

    def state(flight: Row) -> float:
        if leg(flight) is None:
            return NOTHING
        if told(flight, "flight.landed"):
            return 3
        return 2 if told(flight, "flight.departed") else int(overdue(flight) > 0)

    def delay(flight: Row) -> float:
        landed, left = told(flight, "flight.landed"), told(flight, "flight.departed")
        if landed:
            return float(min(400, max(-60, landed["arrival_delay_minutes"])))
        if left:
            return float(min(400, max(-60, left["departure_delay_minutes"])))
        return min(400, overdue(flight)) if overdue(flight) > 0 else NOTHING

    def slack(flight: Row) -> float:
        found, landed = leg(flight), told(flight, "flight.landed")
        if found is None:
            return NOTHING
        late = 0 if math.isnan(delay(flight)) else delay(flight)
        back = (found["scheduled_arrival_us"] - found["scheduled_departure_us"]) // MINUTE
        ready = landed["event_time_us"] if landed else found["scheduled_arrival_us"] + late * MINUTE
        left = (flight["scheduled_departure_us"] - ready) // MINUTE
        return float(min(900, max(-400, left - back - 45)))

    assert_all("previous_leg_known", lambda f: float(leg(f) is not None))
    assert_all("previous_leg_state", state)
    assert_all("previous_leg_delay_minutes", delay)
    assert_all("previous_leg_slack_minutes", slack)
    assert len({row["previous_leg_state"] for _, row in sample()}) >= 4


def test_the_aircraft_is_known_by_its_departures_and_the_register() -> None:
    def legs(flight: Row) -> int:
        told = known("flight.departed", flight, "tailnum") if flight["tailnum"] else []
        return sum(e["event_time_us"] >= as_of(flight) - DAY for e in told)

    def registered(flight: Row, field: str) -> float:
        told = known("aircraft.registered", flight, "tailnum")
        return NOTHING if not told or told[0][field] is None else float(told[0][field])

    assert_all("aircraft_departures_count_24h", legs)
    assert_all("aircraft_register_last_seats", lambda f: registered(f, "seats"))
    assert_all("aircraft_register_last_built_year", lambda f: registered(f, "built_year"))

"""Events of synthetic flights in a real offline store, for tests that train."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np

from features.catalog import event_types
from features.catalog.flights.events import DEPARTED, LANDED, SCHEDULED, WEATHER
from features.definitions import EventType
from features.engine.columns import kinds
from features.stores.delta.store import DeltaOfflineStore
from features.stores.ports import EventBatch
from infra.clock import DAY, HOUR, MINUTE, to_us
from infra.kafka.partitions import Partition

CARRIERS, ORIGINS = ("AA", "B6", "DL", "UA"), ("EWR", "JFK", "LGA")
DESTINATIONS = tuple(f"D{chr(65 + i)}X" for i in range(12))
FIRST_DAY = date(2013, 1, 1)


def write_synthetic_flights(folder: str, *, days: int, flights_a_day: int, seed: int = 0) -> None:
    """Fill an empty store with `days` days of weather and of flights with known causes of delay."""
    store = DeltaOfflineStore(folder, event_types())
    flights = _flights(np.random.default_rng(seed), days=days, flights_a_day=flights_a_day)
    departure, arrival = flights["scheduled_departure_us"], flights["scheduled_arrival_us"]
    departed = departure + flights["departure_delay_minutes"] * MINUTE
    landed = arrival + flights["arrival_delay_minutes"] * MINUTE
    _append(store, SCHEDULED, flights, departure - DAY)
    _append(store, DEPARTED, flights, departed)
    _append(store, LANDED, flights, landed)
    _append(store, WEATHER, *_weather(days))


def _flights(rng: np.random.Generator, *, days: int, flights_a_day: int) -> dict[str, Any]:
    n = days * flights_a_day
    day = np.repeat(np.arange(days), flights_a_day)
    minute = rng.integers(5 * 60, 24 * 60, n)
    departure = to_us(FIRST_DAY) + day * DAY + minute * MINUTE
    block, carrier = rng.integers(60, 300, n), rng.choice(CARRIERS, n)
    spell = rng.normal(0, 8, days * 6)[day * 6 + minute // 240]  # four hours share their weather
    delay = rng.gumbel(0, 14, n) + spell + np.where(carrier == "AA", 10, 0)
    departure_delay = np.clip(delay, -15, 300).astype(np.int64)
    return {
        "flight_id": [f"F{d}-{i}" for i, d in enumerate(day)],
        "carrier": carrier,
        "flight": rng.integers(1, 900, n),
        "origin": rng.choice(ORIGINS, n),
        "dest": rng.choice(DESTINATIONS, n),
        "tailnum": [f"N{i}" for i in rng.integers(0, 200, n)],
        "distance_miles": block * 7,
        "scheduled_departure_us": departure,
        "scheduled_arrival_us": departure + block * MINUTE,
        "local_minute": minute,
        "weekday": day % 7 + 1,
        "departure_delay_minutes": departure_delay,
        "arrival_delay_minutes": departure_delay + rng.normal(0, 8, n).astype(np.int64),
        "air_time_minutes": block - 20,
    }


def _weather(days: int) -> tuple[dict[str, Any], Any]:
    hours = np.repeat(np.arange(days * 24), len(ORIGINS))
    times = to_us(FIRST_DAY) + hours * HOUR + 51 * MINUTE
    readings = dict.fromkeys(WEATHER.fields, np.sin(hours / 24.0) + 10.0)
    return {**readings, "origin": list(ORIGINS) * (days * 24)}, times


def _append(
    store: DeltaOfflineStore, event: EventType, columns: dict[str, Any], times: Any
) -> None:
    order = np.argsort(times, kind="stable")
    partition, n = Partition(event.name, 0), len(order)
    own = {name: _sorted(columns[name], order) for name in kinds(event.record) if name in columns}
    store.append(
        EventBatch(
            event=event,
            columns={
                **own,
                "event_id": [f"{event.name}/{i}" for i in range(n)],
                "event_time_us": times[order],
                "known_at_us": times[order],
                "ingest_time_us": times[order],
                "partition": [0] * n,
                "offset": list(range(n)),
            },
            starts={partition: 0},
            ends={partition: n},
        )
    )


def _sorted(values: Sequence[Any], order: Any) -> Any:
    return np.asarray(values)[order]

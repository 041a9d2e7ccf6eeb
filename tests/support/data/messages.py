"""Records as a broker delivers them."""

from dataclasses import dataclass
from typing import Any

import msgspec
from confluent_kafka import KafkaError

from features.catalog.flights.events import REQUESTED, ForecastRequested
from infra.clock import MINUTE

NOON_US = 1_362_139_200_000_000  # 2013-03-01 12:00 UTC


@dataclass(frozen=True, kw_only=True)
class AMessage:
    """Replaces the client's message."""

    its_value: bytes | None
    its_key: bytes | None = b"flight-1"
    its_offset: int = 0
    its_partition: int = 1
    its_headers: tuple[tuple[str, bytes | None], ...] = ()
    its_timestamp_ms: int = NOON_US // 1_000

    def topic(self) -> str:
        return REQUESTED.name

    def partition(self) -> int:
        return self.its_partition

    def offset(self) -> int:
        return self.its_offset

    def key(self) -> bytes | None:
        return self.its_key

    def value(self) -> bytes | None:
        return self.its_value

    def headers(self) -> list[tuple[str, bytes | None]]:
        return list(self.its_headers)

    def timestamp(self) -> tuple[int, int]:
        return 1, self.its_timestamp_ms

    def error(self) -> KafkaError | None:
        return None


def a_request(event_id: str = "r1", **changes: Any) -> ForecastRequested:
    """A request at noon for a flight that leaves an hour later."""
    fields: dict[str, Any] = {
        "event_id": event_id,
        "event_time_us": NOON_US,
        "flight_id": "flight-1",
        "carrier": "AA",
        "flight": 1,
        "origin": "JFK",
        "dest": "LAX",
        "tailnum": "N1",
        "distance_miles": 2_475,
        "scheduled_departure_us": NOON_US + 60 * MINUTE,
        "scheduled_arrival_us": NOON_US + 420 * MINUTE,
        "local_minute": 480,
        "weekday": 5,
    }
    return ForecastRequested(**fields | changes)


def a_message(request: ForecastRequested | None = None, **its: Any) -> AMessage:
    """The message of a request."""
    request = request or a_request()
    return AMessage(
        its_value=msgspec.json.encode(request), its_key=request.flight_id.encode(), **its
    )

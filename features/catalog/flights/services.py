"""The features of a model of a flight's delay, and the label that it predicts."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from numpy.typing import NDArray

from features.catalog.flights import views
from features.catalog.flights.events import LANDED, REQUESTED, SCHEDULED
from features.catalog.flights.holidays import days_from_holiday, local_day
from features.definitions import Columns, Decision, FeatureService, Label, RequestColumn
from infra.clock import MINUTE

LEAD_MINUTES = 60  # two hours cost 0.010 AUC, none gains 0.011 (docs/reference/flights.md)


def _field(name: str) -> Callable[[Columns], NDArray[Any]]:
    return lambda columns: columns[name]


FORECAST = Decision(
    request=REQUESTED,
    source=SCHEDULED,
    entity_id="flight_id",
    at=lambda e: e["scheduled_departure_us"] - LEAD_MINUTES * MINUTE,
    of_several="current",  # a flight that is announced again is one flight
)

FLIGHT_DELAY = FeatureService(
    name="flight_delay",
    decision=FORECAST,
    request_columns=(
        *(
            RequestColumn(name=name, compute=_field(name), reads=(name,), category=True)
            for name in ("carrier", "origin", "dest")
        ),
        *(
            RequestColumn(name=name, compute=_field(name), reads=(name,))
            for name in ("distance_miles", "local_minute", "weekday")
        ),
        RequestColumn(
            name="block_minutes",
            compute=lambda e: (e["scheduled_arrival_us"] - e["scheduled_departure_us"]) // MINUTE,
            reads=("scheduled_arrival_us", "scheduled_departure_us"),
        ),
        RequestColumn(
            name="days_from_holiday",
            compute=lambda e: days_from_holiday(
                local_day(e["scheduled_departure_us"], e["local_minute"]), at_most=7
            ),
            reads=("scheduled_departure_us", "local_minute"),
        ),
    ),
    views=views.ALL,
    refused=("tailnum",),  # null only for flights that are cancelled later
)

LATE_15 = Label(
    name="late15",
    source=LANDED,
    entity_id="flight_id",
    value=lambda e: e["arrival_delay_minutes"] >= 15,
    reads=("arrival_delay_minutes",),
    max_wait=timedelta(hours=24),
)

"""What is known about the previous departure of the same aircraft from New York.

The flight back to New York is not in the data, so when the aircraft is ready is an estimate: the
arrival of that leg, known or expected, the same block time back, and the turn-round.
"""

from datetime import timedelta

import numpy as np

from features.catalog.flights.events import CANCELLED, DEPARTED, LANDED, SCHEDULED
from features.definitions import Columns, Entity, Float64Array, ItemValue, PreviousView
from infra.clock import MINUTE

TURN_ROUND_MINUTES = 45
AIRCRAFT = Entity(name="aircraft", keys=("tailnum",))
_LEAVES, _ARRIVES = (
    "flight.scheduled.scheduled_departure_us",
    "flight.scheduled.scheduled_arrival_us",
)


def known(leg: Columns, _request: Columns) -> Float64Array:
    """1 when there is such a leg, else 0."""
    return leg["flight.scheduled"].astype(np.float64)


def state(leg: Columns, request: Columns) -> Float64Array:
    """0 scheduled, 1 overdue, 2 in the air, 3 landed."""
    code = np.where(_late_so_far(leg, request) > 0, 1.0, 0.0)
    code = np.where(leg["flight.departed"], 2.0, code)
    code = np.where(leg["flight.landed"], 3.0, code)
    return np.where(leg["flight.scheduled"], code, np.nan)


def delay_minutes(leg: Columns, request: Columns) -> Float64Array:
    """Its delay as far as it is known by now: at landing, at departure, or how long it is overdue;
    nothing while it is still to leave in time."""
    return np.clip(_delay(leg, request), -60, 400)


def gap_minutes(leg: Columns, request: Columns) -> Float64Array:
    """From its scheduled departure to ours."""
    gap: Float64Array = (request["scheduled_departure_us"] - leg[_LEAVES]) // MINUTE
    return gap


def slack_minutes(leg: Columns, request: Columns) -> Float64Array:
    """What is left between the estimate of its return and our departure; negative: it is late."""
    delay = np.nan_to_num(_delay(leg, request))
    expected = leg[_ARRIVES] + delay * MINUTE
    arrival = np.where(leg["flight.landed"], leg["flight.landed.event_time_us"], expected)
    back = (leg[_ARRIVES] - leg[_LEAVES]) // MINUTE
    left = (request["scheduled_departure_us"] - arrival) // MINUTE
    slack: Float64Array = np.clip(left - back - TURN_ROUND_MINUTES, -400, 900)
    return slack


def _late_so_far(leg: Columns, request: Columns) -> Float64Array:
    late: Float64Array = (request["as_of_us"] - leg[_LEAVES]) // MINUTE
    return late


def _delay(leg: Columns, request: Columns) -> Float64Array:
    late = _late_so_far(leg, request)
    waiting: Float64Array = np.where(late > 0, late, np.nan)
    left = np.where(leg["flight.departed"], leg["flight.departed.departure_delay_minutes"], waiting)
    delay: Float64Array = np.where(
        leg["flight.landed"], leg["flight.landed.arrival_delay_minutes"], left
    )
    return delay


PREVIOUS_LEG = PreviousView(
    name="previous_leg",
    entity=AIRCRAFT,
    item="flight_id",
    opened=SCHEDULED,
    order="scheduled_departure_us",
    before="scheduled_departure_us",
    reach=timedelta(hours=18),
    ahead=timedelta(hours=48),
    keeps=(
        (SCHEDULED, ("scheduled_departure_us", "scheduled_arrival_us")),
        (DEPARTED, ("departure_delay_minutes",)),
        (LANDED, ("arrival_delay_minutes", "event_time_us")),
    ),
    unless=(CANCELLED,),
    values=(
        ItemValue(name="known", meaning="1 if there is such a leg, else 0", compute=known),
        ItemValue(
            name="state",
            meaning="0 scheduled, 1 overdue, 2 in the air, 3 landed; null without a leg",
            compute=state,
        ),
        ItemValue(
            name="delay_minutes",
            meaning="its delay in minutes as known so far, cut at -60 and 400; null while on time",
            compute=delay_minutes,
        ),
        ItemValue(
            name="gap_minutes",
            meaning="minutes from its scheduled departure to the request's",
            compute=gap_minutes,
        ),
        ItemValue(
            name="slack_minutes",
            meaning="minutes from its estimated return and turn-round to the request's departure",
            compute=slack_minutes,
        ),
    ),
)

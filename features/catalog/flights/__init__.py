"""Departures from New York's three airports: real flights of 2013."""

from features.catalog.flights import events, services, views
from features.definitions import Domain

DOMAIN = Domain(
    name="flights",
    events=events.ALL,
    views=views.ALL,
    services=(services.FLIGHT_DELAY,),
    labels=(services.LATE_15,),
    predictions_topic="flight.predictions",
)

"""Purchases at CDNOW, a record shop on the web: those of 1997's first customers until mid 1998."""

from features.catalog.purchases import events, services, views
from features.definitions import Domain

DOMAIN = Domain(
    name="purchases",
    events=events.ALL,
    views=views.ALL,
    services=(services.REPEAT_PURCHASE,),
    labels=(services.BOUGHT_AGAIN,),
    predictions_topic="purchase.predictions",
)

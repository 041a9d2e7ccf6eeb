"""The features of a model of a customer's next purchase, and the label that it predicts."""

from datetime import timedelta

from features.catalog.purchases import views
from features.catalog.purchases.events import MADE, REQUESTED
from features.definitions import Decision, FeatureService, Label
from infra.clock import DAY

FORECAST = Decision(
    request=REQUESTED,
    source=MADE,
    entity_id="customer_id",
    at=lambda e: (e["event_time_us"] // DAY + 1) * DAY,  # the midnight that ends the day, UTC
)

REPEAT_PURCHASE = FeatureService(
    name="repeat_purchase",
    decision=FORECAST,
    request_columns=(),
    views=views.ALL,
)

BOUGHT_AGAIN = Label(
    name="bought_again_within_28d",
    source=MADE,
    entity_id="customer_id",
    value=lambda e: e["quantity"] > 0,  # any purchase, whatever it cost
    reads=("quantity",),
    within=timedelta(days=28),
    max_wait=timedelta(days=29),  # a day for purchases that become known late
)

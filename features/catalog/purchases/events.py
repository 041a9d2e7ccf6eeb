"""The events of a customer. Times are microseconds since 1970 UTC.

Every integer has bounds: a JSON number beyond 64 bits would otherwise pass the decoder and spoil
its whole batch later.
"""

from typing import Annotated

from msgspec import Meta, Struct

from features.definitions import PRINTABLE, EventType

Id = Annotated[str, Meta(min_length=1, max_length=100), PRINTABLE]
TimeUs = Annotated[int, Meta(ge=631_152_000_000_000, le=4_102_444_800_000_000)]  # 1990 to 2100


class OfCustomer(Struct, frozen=True, kw_only=True, gc=False):
    """What every event of a customer says."""

    event_id: Id
    event_time_us: TimeUs
    customer_id: Id


class PurchaseMade(OfCustomer, frozen=True, kw_only=True, gc=False):
    """A customer bought some records at once."""

    quantity: Annotated[int, Meta(ge=1, le=10_000)]  # how many records
    amount_cents: Annotated[int, Meta(ge=0, le=100_000_000)]  # may be 0


class ForecastRequested(OfCustomer, frozen=True, kw_only=True, gc=False):
    """The shop asks whether a customer will buy again, at the end of a day with a purchase.

    `event_time_us` is the decision time: the prediction uses what was known before it.
    """


MADE = EventType(name="purchase.made", record=PurchaseMade, key="customer_id")
REQUESTED = EventType(
    name="purchase.forecast_requested", record=ForecastRequested, key="customer_id"
)

ALL = (MADE, REQUESTED)

"""The views of a customer."""

from datetime import timedelta

from features.catalog.purchases.events import MADE
from features.definitions import Aggregation, Column, Entity, FeatureView

CUSTOMER = Entity(name="customer", keys=("customer_id",))

D7, D28, D84 = (timedelta(days=d) for d in (7, 28, 84))

CENTS = Column(name="cents", compute=lambda e: e["amount_cents"], reads=("amount_cents",))
QUANTITY = Column(name="quantity", compute=lambda e: e["quantity"], reads=("quantity",))

CUSTOMER_PURCHASES = FeatureView(
    name="customer_purchases",
    source=MADE,
    entity=CUSTOMER,
    columns=(CENTS, QUANTITY),
    aggregations=(
        Aggregation(operation="count", windows=(D7, D28, D84)),
        *(
            Aggregation(operation=operation, column=column, windows=(D7, D28, D84))
            for column in ("cents", "quantity")
            for operation in ("sum", "mean")
        ),
        Aggregation(operation="last", column="amount_cents", windows=(D84,)),
        Aggregation(operation="last", column="quantity", windows=(D84,)),
        Aggregation(operation="since_last", windows=(D84,)),
    ),
)

ALL = (CUSTOMER_PURCHASES,)

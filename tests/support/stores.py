"""Updates of online stores with synthetic sales, and how to read them back."""

from typing import Any

import numpy as np

from features.engine.event_rows import view_rows
from features.engine.sorting import UNSET
from features.engine.value_limits import DEFAULT_LIMITS, ValueLimits
from features.engine.view_states import state_of
from features.stores.memory import MemoryOnlineStore
from features.stores.ports import OnlineContent, OnlineStore, OnlineUpdate
from infra.clock import SECOND
from infra.kafka.partitions import Partition
from tests.support.data.sales import CITY_SALES, SHOP_SALES, SOLD, START_US, Sale, rows_of

P0, P1 = Partition(SOLD.name, 0), Partition(SOLD.name, 1)


def update(
    *sales: Sale,
    start: int = 0,
    end: int | None = None,
    partition: Partition = P0,
    compacted_through: int | None = None,
    limits: ValueLimits = DEFAULT_LIMITS,
    **more: object,
) -> OnlineUpdate:
    """The sales as one update of both views; times and offsets are the arguments'."""
    views = (SHOP_SALES, CITY_SALES) if sales else ()
    rows = [view_rows(view, rows_of(sales), limits=limits) for view in views]
    return OnlineUpdate(
        changes=[r for r in rows if r is not None],
        starts={partition: start},
        ends={partition: start + len(sales) if end is None else end},
        compacted_through_us=UNSET
        if compacted_through is None
        else START_US + compacted_through * SECOND,
        **more,  # type: ignore[arg-type]
    )


def count(store: OnlineStore, shop: str = "a") -> float:
    """Number of a shop's sales that the store holds."""
    values = store.get([(SHOP_SALES.name, [shop.encode()])])[0]
    as_of = np.array([START_US + 20 * SECOND])
    features = state_of(SHOP_SALES).read(values, [shop.encode()], np.array([0]), as_of).values[0]
    return float(features[SHOP_SALES.features.index("shop_sales_count_40s")])


def content(*sales: Sale, positions: dict[Partition, int], **more: Any) -> OnlineContent:
    """The whole content of a store after these sales."""
    store = MemoryOnlineStore()
    store.apply(update(*sales))
    names = [s.shop.encode() for s in sales]
    values = store.get([(SHOP_SALES.name, names)])[0]
    present = [
        (name, value) for name, value in zip(names, values, strict=True) if value is not None
    ]
    parts = {"seen": [], "schemas": {}, **more}
    batches = [(SHOP_SALES.name, [item]) for item in present]  # a store takes them one by one
    return OnlineContent(values=batches, positions=positions, **parts)

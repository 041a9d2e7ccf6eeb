"""Training sets of the synthetic orders: the service, its label, and stores with their events."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
from msgspec import structs

from features.definitions import Decision, FeatureService, Label, RequestColumn
from features.retrieval.training_set import ReadOptions, TrainingSetSpec
from features.stores.ports import EventBatch, OfflineStore
from infra.clock import SECOND
from infra.kafka.partitions import Partition
from tests.support.data.orders import (
    ADDED,
    DROPPED,
    EVENTS,
    FOREIGN,
    PLACED,
    REQUESTED,
    SHIPPED,
    SPREAD,
    TIMED,
    VIEWS,
    Delivery,
    us,
)

WAIT_S, HORIZON_S, LAST_S = 60, 30, 400
SERVICE = FeatureService(
    name="on_its_way",
    decision=Decision(
        request=REQUESTED,
        source=PLACED,
        entity_id="order_id",
        at=lambda e: e["due_us"] - 5 * SECOND,
    ),
    request_columns=(
        RequestColumn(name="shop", compute=lambda e: e["shop"], reads=("shop",), category=True),
    ),
    views=VIEWS,
)
# Views of short reach: no view makes a slice read all that lies before it.
NEAR = replace(SERVICE, views=(ADDED, TIMED, FOREIGN, SPREAD))
IN_PARCELS = Label(
    name="in_parcels",
    source=SHIPPED,
    entity_id="order_id",
    value=lambda e: e["parcels"] >= 1,
    reads=("parcels",),
    max_wait=timedelta(seconds=WAIT_S),
)


def a_spec(*, cut_off: int = LAST_S, end: int = LAST_S, start: int = 0) -> TrainingSetSpec:
    """Decisions from `start` to `end`, as of `cut_off`, in seconds."""
    return TrainingSetSpec(
        service=SERVICE,
        label=IN_PARCELS,
        start_us=us(start),
        end_us=us(end),
        known_before_us=us(cut_off),
    )


def read_options(*, slice_s: int) -> ReadOptions:
    """Read with slices of so many seconds."""
    return ReadOptions(
        slice_us=slice_s * SECOND,
        duplicate_horizon_us=HORIZON_S * SECOND,
        ready_tolerance_us=LAST_S * SECOND,
    )


def orders(*, seed: int, count: int) -> list[Delivery]:
    """Orders of 300 seconds: known late or twice, shipped early, late, twice or never."""
    rng, deliveries = np.random.default_rng(seed), []
    for n in range(count):
        happened = int(rng.integers(0, 300))
        about: dict[str, Any] = {"order": f"o{n}", "shop": str(rng.choice(["a", "b"]))}
        deliveries.append(
            Delivery(
                event=PLACED.name,
                id=f"placed{n}",
                happened=happened,
                known=happened + int(rng.choice([0, 0, 1, 11, 45])),
                customer=str(rng.choice(["c1", "c2", "c3"])),
                cents=int(rng.integers(-3, 7)),
                weight=float(rng.choice([-0.0, 1.5, 0.14, 2_000.0])),
                due=happened + int(rng.integers(0, 80)),
                **about,
            )
        )
        for k in range(int(rng.integers(0, 3))):
            ended = happened + int(rng.integers(0, 120))
            deliveries.append(
                Delivery(
                    event=str(rng.choice([SHIPPED.name, DROPPED.name])),
                    id=f"end{n}-{k}",
                    happened=ended,
                    known=ended + int(rng.choice([0, 1, 40])),
                    parcels=(None, 0, 1, 2)[rng.choice(4)],
                    **about,
                )
            )
    repeated = [deliveries[i] for i in rng.integers(0, len(deliveries), len(deliveries) // 8)]
    deliveries += [
        structs.replace(
            e,
            known=e.known + int(rng.integers(0, 2 * HORIZON_S)),
            happened=e.happened + int(rng.integers(0, HORIZON_S)),  # the source's clock was wrong
        )
        for e in repeated
    ]
    return sorted(deliveries, key=lambda e: e.known)


def append(store: OfflineStore, deliveries: Sequence[Delivery]) -> None:
    """Append them after the stored events, as ingest does."""
    for event in EVENTS:
        own = [e for e in deliveries if e.event == event.name]
        if not own:
            continue
        records, partition = [e.record() for e in own], Partition(event.name, 0)
        first = store.positions([event.name]).get(partition, 0)
        store.append(
            EventBatch(
                event=event,
                columns={
                    **{f: [getattr(r, f) for r in records] for f in event.fields},
                    "known_at_us": [us(e.known) for e in own],
                    "ingest_time_us": [us(e.known) for e in own],
                    "partition": [0] * len(own),
                    "offset": list(range(first, first + len(own))),
                },
                starts={partition: first},
                ends={partition: first + len(own)},
            )
        )

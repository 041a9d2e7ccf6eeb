"""Fields that do not fit into memory are read when they are needed, and nothing else changes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl
import pytest

from features.definitions import EventType, Float64Array
from features.errors import FeatureError
from features.retrieval import event_log, stored_events
from features.retrieval.event_log import EventLog
from features.retrieval.historical import training_rows
from features.retrieval.view_values import view_values
from features.stores.delta.store import DeltaOfflineStore
from features.stores.memory import MemoryOfflineStore
from features.stores.ports import EventBatch, OfflineStore
from infra.clock import SECOND
from infra.kafka.partitions import Partition
from tests.support.by_hand import an_event, of_shop
from tests.support.data.order_training_sets import IN_PARCELS, LAST_S, SERVICE, append, orders
from tests.support.data.orders import EVENTS, us

ROWS = 300
FIELDS = tuple(f"f{i}" for i in range(6))
NUMBERS: dict[str, Any] = dict.fromkeys(FIELDS, float | None)
READ = an_event(**NUMBERS)
NEWEST = of_shop(READ, *(("last", f) for f in FIELDS))
Limit = Callable[[int], None]
S = TypeVar("S", bound=OfflineStore)


class WatchedStore(MemoryOfflineStore):
    """Remembers what was read together."""

    def __init__(self) -> None:
        super().__init__()
        self.read_together: list[Sequence[str]] = []

    def read(self, event: EventType, *, columns: Sequence[str], **span: Any) -> pl.DataFrame:
        self.read_together.append(columns)
        return super().read(event, columns=columns, **span)


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Limit:
    """Sets how many values may be in memory at once."""

    def set_limit(cells: int) -> None:
        monkeypatch.setattr(event_log, "CELLS_AT_ONCE", cells)
        monkeypatch.setattr(stored_events, "CELLS_AT_ONCE", cells)

    return set_limit


@pytest.fixture(params=["memory", pytest.param("delta", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> OfflineStore:
    """Orders in several commits, some of them known late, some of them sent twice."""
    store = (
        MemoryOfflineStore()
        if request.param == "memory"
        else DeltaOfflineStore(str(tmp_path / "offline"), EVENTS)
    )
    deliveries = orders(seed=3, count=60)
    for first in range(0, len(deliveries), 40):
        append(store, deliveries[first : first + 40])
    return store


@pytest.mark.parametrize("slice_s", [40, 10_000])
def test_a_training_set_is_the_same_when_its_fields_do_not_fit_into_memory(
    slice_s: int, store: OfflineStore, limit: Limit
) -> None:
    def made() -> pl.DataFrame:
        return training_rows(
            SERVICE,
            IN_PARCELS,
            store,
            start_us=us(-10),
            end_us=us(LAST_S),
            known_before_us=us(LAST_S),
            ready_tolerance_us=LAST_S * SECOND,
            slice_us=slice_s * SECOND,
        ).frame

    at_once = made()
    limit(0)
    assert at_once.height
    assert made().equals(at_once)


def test_few_fields_are_in_memory_at_once(limit: Limit) -> None:
    store = filled(WatchedStore())
    at_once = newest(store)
    limit(3 * ROWS)
    store.read_together.clear()
    np.testing.assert_array_equal(newest(store), at_once)

    fields = [tuple(f for f in columns if f in FIELDS) for columns in store.read_together]
    assert [f for f in fields if f] == [("f0", "f1"), ("f2", "f3"), ("f4", "f5")]


def test_rows_in_another_order_are_refused(limit: Limit) -> None:
    class Shuffled(MemoryOfflineStore):
        def read(self, event: EventType, *, columns: Sequence[str], **span: Any) -> pl.DataFrame:
            frame = super().read(event, columns=columns, **span)
            return frame.reverse() if "f0" in columns else frame

    store = filled(Shuffled())
    limit(0)
    with pytest.raises(FeatureError, match=r"gave other rows when version \d+ was read again"):
        newest(store)


def filled(store: S) -> S:
    rng = np.random.default_rng(0)
    values = {f: [None if v < 0.1 else v for v in rng.random(ROWS).tolist()] for f in FIELDS}
    times = [second * SECOND for second in rng.integers(0, 500, ROWS).tolist()]
    columns = {
        "event_id": [f"e{n}" for n in range(ROWS)],
        "event_time_us": times,
        "shop": [str(n % 7) for n in range(ROWS)],
        **values,
        "known_at_us": times,
        "ingest_time_us": times,
        "partition": [0] * ROWS,
        "offset": list(range(ROWS)),
    }
    place = Partition(READ.name, 0)
    store.append(EventBatch(event=READ, columns=columns, starts={place: 0}, ends={place: ROWS}))
    return store


def newest(store: OfflineStore) -> Float64Array:
    shops = pl.DataFrame({"shop": [str(n % 8) for n in range(80)]})
    as_of_us = np.linspace(0, 600 * SECOND, 80).astype(np.int64)
    return view_values(NEWEST, EventLog(store), shops, as_of_us)

"""Duplicates are found in every table, however it is cut into blocks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.engine.deduplication import DeduplicationWindow, SeenIds
from features.retrieval import repeated_events
from features.retrieval.repeated_events import duplicates, is_first
from features.stores.memory import MemoryOfflineStore
from infra.clock import SECOND
from infra.kafka.partitions import Partition
from tests.support.data.sales import SOLD, START_US, sale
from tests.support.examples import examples
from tests.support.offline_batches import batch

P = Partition(SOLD.name, 0)
HORIZON_S = 10
SIGHTINGS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 50), st.integers(0, 50)), max_size=25
)
"""Id, when it happened, when it was emitted: in the order of offsets."""


@pytest.fixture(autouse=True, params=[(1, 1), (3, 2), (500, 500)])
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, ids = request.param
    monkeypatch.setattr(repeated_events, "ROWS_AT_ONCE", rows)
    monkeypatch.setattr(repeated_events, "IDS_AT_ONCE", ids)


def stored(sightings: list[tuple[str, int, int]]) -> MemoryOfflineStore:
    store = MemoryOfflineStore()
    sales = [sale(i, happened, known=known) for i, happened, known in sightings]
    if sales:
        store.append(batch(*sales, start=0))
    return store


def first_by_ingest(sightings: list[tuple[str, int, int]]) -> list[bool]:
    window = DeduplicationWindow(HORIZON_S * SECOND, keep_us=10**12)
    known = np.array([START_US + k * SECOND for _, _, k in sightings], np.int64)
    seen = SeenIds(partition=P, first_offset=0, ids=[i for i, _, _ in sightings], known_at_us=known)
    return window.first_sightings(seen).tolist()


@examples(40)
@given(sightings=SIGHTINGS, since=st.integers(0, 50))
def test_history_drops_what_ingest_drops(sightings: list[tuple[str, int, int]], since: int) -> None:
    """Those known since a time; of earlier ones it need not know."""
    store, known_from_us = stored(sightings), START_US + since * SECOND
    repeated = duplicates(store, SOLD, horizon_us=HORIZON_S * SECOND, known_from_us=known_from_us)
    columns = ("partition", "offset", "known_at_us")
    rows = store.read(SOLD, columns=columns, known_from_us=known_from_us).sort("offset")
    expected = first_by_ingest(sightings)
    assert is_first(rows, repeated).tolist() == [expected[o] for o in rows["offset"].to_list()]


def test_a_table_without_copies_has_no_duplicates() -> None:
    store = stored([("a", 0, 0), ("b", 1, 0), ("c", 2, 9)])
    assert not len(duplicates(store, SOLD, horizon_us=HORIZON_S * SECOND))
    assert not len(duplicates(MemoryOfflineStore(), SOLD, horizon_us=HORIZON_S * SECOND))

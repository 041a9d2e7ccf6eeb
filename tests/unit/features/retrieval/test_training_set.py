"""Training sets by slices: the cuts make no difference, and only ripe decisions enter."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from features.catalog.flights import DOMAIN
from features.catalog.flights.services import FLIGHT_DELAY, LATE_15
from features.contracts.codec import decode
from features.definitions import FeatureService
from features.engine.columns import field_tuples
from features.engine.event_rows import EventRows
from features.errors import FeatureError
from features.ingestion.offline_sink import OfflineSink
from features.retrieval.content_hash import ContentDigest, content_sha256
from features.retrieval.event_log import EventLog
from features.retrieval.historical import TrainingRows, training_rows
from features.retrieval.manifest import Code, Manifest, RowsManifest, TableUse
from features.retrieval.training_set import (
    FILE,
    MANIFEST,
    TrainingSetDiffers,
    find_service_and_label,
    read_manifest,
    write_training_set,
)
from features.stores.memory import MemoryOfflineStore
from infra.clock import DAY, HOUR, SECOND
from infra.kafka.partitions import Partition
from tests.support.data.order_training_sets import (
    HORIZON_S,
    IN_PARCELS,
    LAST_S,
    NEAR,
    SERVICE,
    WAIT_S,
    a_spec,
    append,
    orders,
    read_options,
)
from tests.support.data.orders import SHIPPED, Delivery, us
from tests.support.data.recordings import flights
from tests.support.examples import examples


def full_of(told: list[Delivery]) -> MemoryOfflineStore:
    store = MemoryOfflineStore()
    append(store, told)
    return store


def rows(
    store: MemoryOfflineStore,
    *,
    slice_s: int,
    cut_off: int = LAST_S,
    service: FeatureService = SERVICE,
) -> TrainingRows:
    return training_rows(
        service,
        IN_PARCELS,
        store,
        start_us=us(-10),
        end_us=us(cut_off),
        known_before_us=us(cut_off),
        duplicate_horizon_us=HORIZON_S * SECOND,
        ready_tolerance_us=LAST_S * SECOND,
        slice_us=slice_s * SECOND,
    )


@examples(25)
@given(
    service=st.sampled_from([SERVICE, NEAR]),
    seed=st.integers(0, 10_000),
    slice_s=st.integers(5, 90),
    cut_off=st.sampled_from([150, 260, LAST_S]),
)
def test_any_slice_gives_the_same_rows(
    service: FeatureService, seed: int, slice_s: int, cut_off: int
) -> None:
    store = full_of(orders(seed=seed, count=40))
    whole = rows(store, slice_s=10_000, cut_off=cut_off, service=service)
    sliced = rows(store, slice_s=slice_s, cut_off=cut_off, service=service)
    assert whole.frame.height > 0
    assert sliced.frame.equals(whole.frame)
    assert sliced.manifest.sha256 == whole.manifest.sha256 == content_sha256(whole.frame)


@pytest.fixture(scope="module")
def two_weeks() -> tuple[MemoryOfflineStore, int]:
    """Real flights, and when the last event was emitted."""
    recorded, store = flights().head(44_000), MemoryOfflineStore()
    buffer = OfflineSink(store, dict(DOMAIN.by_name), clock_us=lambda: 0)
    partitions = [Partition(e.name, 0) for e in DOMAIN.events]
    buffer.load(partitions)
    found, ends = [], dict.fromkeys(partitions, 0)
    for event in DOMAIN.events:
        part = recorded.filter(pl.col("event") == event.name)
        records = [decode(event, payload) for payload in part["payload"]]
        ends[Partition(event.name, 0)] = n = len(records)
        found.append(
            EventRows(
                event=event,
                fields=field_tuples(records, event.fields),
                partition=np.zeros(n, np.int64),
                offset=np.arange(n),
                known_at_us=part["known_at_us"].to_numpy(),
            )
        )
    buffer.add(found, ends)
    buffer.flush()
    return store, int(recorded["known_at_us"].to_numpy().max())


@pytest.mark.parametrize("slice_us", [7 * HOUR, DAY, 5 * DAY])
def test_any_slice_of_real_flights_gives_the_same_rows(
    two_weeks: tuple[MemoryOfflineStore, int], slice_us: int
) -> None:
    store, end_us = two_weeks
    span: dict[str, Any] = {
        "start_us": end_us - 12 * DAY,
        "end_us": end_us,
        "known_before_us": end_us,
    }
    whole = training_rows(FLIGHT_DELAY, LATE_15, store, **span, slice_us=400 * DAY)
    sliced = training_rows(FLIGHT_DELAY, LATE_15, store, **span, slice_us=slice_us)
    assert whole.frame.height > 9_000
    assert sliced.frame.equals(whole.frame)
    assert sliced.manifest.sha256 == whole.manifest.sha256


def test_no_more_than_a_slice_and_what_it_reaches_back_to_is_read_at_once() -> None:
    """Of a long history, whose events and decisions spread evenly."""
    told = [
        structs.replace(e, known=e.known + 86_400 * day, happened=e.happened + 86_400 * day)
        for day in range(40)
        for e in (structs.replace(e, due=e.due + 86_400 * day) for e in orders(seed=day, count=30))
    ]
    told = [
        structs.replace(e, id=f"{i}", order=f"{e.order}-{i // 100}") for i, e in enumerate(told)
    ]
    store, most = full_of(told), 0
    read = EventLog.events

    class Watched(EventLog):
        def events(self, *args: object, **span: object) -> pl.DataFrame:
            nonlocal most
            frame = read(self, *args, **span)  # type: ignore[arg-type]
            most = max(most, frame.height)
            return frame

    from features.retrieval.historical import training_slices

    end_us = us(41 * 86_400)
    past = Watched(store, horizon_us=HORIZON_S * SECOND)
    span: dict[str, Any] = {"start_us": us(0), "end_us": end_us, "known_before_us": end_us}
    pieces = list(training_slices(SERVICE, IN_PARCELS, past, **span, slice_us=DAY))
    assert len(pieces) == 40
    assert sum(p.height for p in pieces) > 1_000
    assert most < len(told) / 2


def test_a_decision_enters_when_its_label_had_all_its_time(tmp_path: Path) -> None:
    store = full_of(orders(seed=1, count=60))
    made, _ = write_training_set(
        a_spec(cut_off=300, end=300), store, tmp_path, options=read_options(slice_s=50)
    )
    frame = pl.read_parquet(tmp_path / FILE)
    assert made.mature_until_us == us(300 - WAIT_S)
    assert us(150) < frame["decision_time_us"].max() < us(300 - WAIT_S)  # type: ignore[operator]
    assert made.rows == frame.height
    assert made.labelled == frame["label"].is_not_null().sum()
    assert 0 < made.labelled < made.rows  # those whose time went by without a word stay, unlabelled


def test_the_file_holds_the_rows_that_its_manifest_is_of(tmp_path: Path) -> None:
    store = full_of(orders(seed=2, count=60))
    made, new = write_training_set(a_spec(), store, tmp_path, options=read_options(slice_s=40))
    assert new
    frame = pl.read_parquet(tmp_path / FILE)
    assert content_sha256(frame) == made.content_sha256
    assert frame.equals(
        rows(store, slice_s=10_000).frame.filter(
            (pl.col("decision_time_us") >= us(0))
            & (pl.col("decision_time_us") < us(LAST_S - WAIT_S))
        )
    )
    assert read_manifest(tmp_path) == made
    assert made.delta_versions == {"order.placed": 1, "order.shipped": 1, "order.dropped": 1}
    assert made.offsets["order.placed-0"][0] == 0
    assert set(made.schema_ids) == {v.name for v in SERVICE.views}
    assert sorted(p.name for p in tmp_path.iterdir()) == [MANIFEST, FILE]


def test_the_keys_of_both_manifests_stay() -> None:
    """People and stored runs read them: a key may be added, none may go or change."""
    common = {"service", "label", "start_us", "end_us", "known_before_us", "rows", "labelled"}
    assert set(RowsManifest.__struct_encode_fields__) == common | {"tables", "sha256"}
    assert set(TableUse.__struct_encode_fields__) == {"delta_version", "rows_read", "offsets"}
    assert set(Manifest.__struct_encode_fields__) == common | {
        *("mature_until_us", "content_sha256", "file_sha256"),
        *("delta_versions", "offsets", "schema_ids", "code"),
    }
    assert set(Code.__struct_encode_fields__) == {"eventide", "commit", "python", "polars"}


def test_the_same_rows_stay_and_others_are_refused(tmp_path: Path) -> None:
    store = full_of(orders(seed=3, count=60))
    made, _ = write_training_set(a_spec(), store, tmp_path, options=read_options(slice_s=40))
    again = write_training_set(a_spec(), store, tmp_path, options=read_options(slice_s=7))
    assert again == (made, False)
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(TrainingSetDiffers, match="another training set"):
        write_training_set(a_spec(start=100), store, tmp_path, options=read_options(slice_s=40))
    assert (tmp_path / FILE).read_bytes() == before
    assert read_manifest(tmp_path) == made


def test_a_damaged_file_is_written_anew(tmp_path: Path) -> None:
    store = full_of(orders(seed=3, count=60))
    made, _ = write_training_set(a_spec(), store, tmp_path, options=read_options(slice_s=40))
    (tmp_path / FILE).write_bytes(b"cut off")
    assert write_training_set(a_spec(), store, tmp_path, options=read_options(slice_s=40)) == (
        made,
        True,
    )
    assert content_sha256(pl.read_parquet(tmp_path / FILE)) == made.content_sha256


def test_no_decision_gives_an_empty_set_of_the_same_columns(tmp_path: Path) -> None:
    store = full_of(orders(seed=3, count=60))
    asked = a_spec(start=LAST_S - 1)
    made, _ = write_training_set(asked, store, tmp_path, options=read_options(slice_s=40))
    assert (made.rows, made.labelled) == (0, 0)
    assert pl.read_parquet(tmp_path / FILE).schema == rows(store, slice_s=40).frame.schema


def test_a_label_counts_however_late_it_came_and_of_several_the_first_known() -> None:
    about: dict[str, Any] = {"order": "o0", "due": 20}
    told = [
        Delivery(event="order.placed", id="p", happened=0, known=0, **about),
        Delivery(event=SHIPPED.name, id="s1", happened=380, known=380, parcels=1, **about),
        Delivery(event=SHIPPED.name, id="s2", happened=100, known=390, parcels=0, **about),
    ]
    for slice_s in (10, 1_000):
        frame = rows(full_of(told), slice_s=slice_s).frame
        assert frame.select("label", "label_known_at_us").rows() == [(1, us(380))]


def test_decisions_after_the_cut_off_are_refused() -> None:
    with pytest.raises(FeatureError, match="cannot be known"):
        a_spec(end=LAST_S + 1)


def test_a_service_and_a_label_are_found_by_name_in_one_domain() -> None:
    from features.catalog import domains

    assert find_service_and_label(domains(), "flight_delay", "late15") == (FLIGHT_DELAY, LATE_15)
    with pytest.raises(FeatureError, match="no service 'nothing'"):
        find_service_and_label(domains(), "nothing", "late15")
    with pytest.raises(FeatureError, match="no label 'nothing'"):
        find_service_and_label(domains(), "flight_delay", "nothing")


@given(
    texts=st.lists(st.none() | st.text(max_size=4), max_size=30),
    cuts=st.lists(st.integers(0, 30), max_size=4),
)
def test_where_content_is_cut_does_not_change_its_hash(
    texts: list[str | None], cuts: list[int]
) -> None:
    n = len(texts)
    frame = pl.DataFrame(
        {
            "text": texts,
            "number": [i / 3 for i in range(n)],
            "label": [i % 3 or None for i in range(n)],
        },
        schema={"text": pl.String, "number": pl.Float64, "label": pl.Int8},
    )
    edges = sorted({0, n, *(c for c in cuts if c < n)})
    digest = ContentDigest()
    for first, last in zip(edges, edges[1:] or [n], strict=False):
        digest.add(frame[first:last])
    assert digest.hexdigest() == content_sha256(frame)


def test_values_are_not_taken_for_parts_of_their_neighbours() -> None:
    frames = [
        pl.DataFrame({"a": values}, schema={"a": pl.String})
        for values in (["ab", "c"], ["a", "bc"], ["abc", None], ["abc", ""], [None, "abc"])
    ]
    assert len({content_sha256(f) for f in frames}) == len(frames)

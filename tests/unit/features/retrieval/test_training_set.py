"""Training sets read in slices: slices change no row, and only mature decisions are included."""

from collections.abc import Callable
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
from features.engine.view_states import state_of
from features.errors import FeatureError
from features.ingestion.offline_sink import OfflineSink
from features.retrieval.content_hash import ContentDigest, content_sha256
from features.retrieval.event_log import EventLog
from features.retrieval.historical import TrainingRows, training_rows
from features.retrieval.manifest import (
    Code,
    Manifest,
    RowsManifest,
    TableUse,
    changed_views,
)
from features.retrieval.stored_events import StoredEvents
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


def full_of(deliveries: list[Delivery]) -> MemoryOfflineStore:
    store = MemoryOfflineStore()
    append(store, deliveries)
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


@pytest.mark.slow
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
def two_weeks() -> tuple[Callable[[int], TrainingRows], TrainingRows]:
    """The last days of two weeks of real flights: in slices of any length, and in one."""
    recorded, store = flights().head(44_000), MemoryOfflineStore()
    buffer = OfflineSink(store, dict(DOMAIN.by_name), clock_us=lambda: 0)
    partitions = [Partition(e.name, 0) for e in DOMAIN.events]
    buffer.load(partitions)
    rows, ends = [], dict.fromkeys(partitions, 0)
    for event in DOMAIN.events:
        part = recorded.filter(pl.col("event") == event.name)
        records = [decode(event, payload) for payload in part["payload"]]
        ends[Partition(event.name, 0)] = n = len(records)
        rows.append(
            EventRows(
                event=event,
                fields=field_tuples(records, event.fields),
                partition=np.zeros(n, np.int64),
                offset=np.arange(n),
                known_at_us=part["known_at_us"].to_numpy(),
            )
        )
    buffer.add(rows, ends)
    buffer.flush()
    end_us = int(recorded["known_at_us"].to_numpy().max())

    def sliced(slice_us: int) -> TrainingRows:
        return training_rows(
            FLIGHT_DELAY,
            LATE_15,
            store,
            start_us=end_us - 12 * DAY,
            end_us=end_us,
            known_before_us=end_us,
            slice_us=slice_us,
        )

    return sliced, sliced(400 * DAY)


@pytest.mark.slow
@pytest.mark.parametrize("slice_us", [7 * HOUR, DAY, 5 * DAY])
def test_any_slice_of_real_flights_gives_the_same_rows(
    two_weeks: tuple[Callable[[int], TrainingRows], TrainingRows], slice_us: int
) -> None:
    of_slices, whole = two_weeks
    sliced = of_slices(slice_us)
    assert whole.frame.height > 9_000
    assert sliced.frame.equals(whole.frame)
    assert sliced.manifest.sha256 == whole.manifest.sha256


def test_only_one_slice_and_its_reach_is_read_at_once() -> None:
    """The history is long, and its events and decisions are spread evenly."""
    deliveries = [
        structs.replace(e, known=e.known + 86_400 * day, happened=e.happened + 86_400 * day)
        for day in range(40)
        for e in (structs.replace(e, due=e.due + 86_400 * day) for e in orders(seed=day, count=30))
    ]
    deliveries = [
        structs.replace(e, id=f"{i}", order=f"{e.order}-{i // 100}")
        for i, e in enumerate(deliveries)
    ]
    store, most = full_of(deliveries), 0

    class Watched(EventLog):
        def events(self, *args: Any, **span: Any) -> pl.DataFrame:
            nonlocal most
            frame = super().events(*args, **span)
            most = max(most, frame.height)
            return frame

        def stored(self, *args: Any, **span: Any) -> StoredEvents:
            nonlocal most
            stored = super().stored(*args, **span)
            most = max(most, stored.frame.height)
            return stored

    from features.retrieval.historical import training_slices

    end_us = us(41 * 86_400)
    event_log = Watched(store, horizon_us=HORIZON_S * SECOND)
    span: dict[str, Any] = {"start_us": us(0), "end_us": end_us, "known_before_us": end_us}
    pieces = list(training_slices(SERVICE, IN_PARCELS, event_log, **span, slice_us=DAY))
    assert len(pieces) == 40
    assert sum(p.height for p in pieces) > 900
    assert most < len(deliveries) / 2


def test_a_decision_is_included_when_the_wait_of_its_label_is_over(tmp_path: Path) -> None:
    store = full_of(orders(seed=1, count=60))
    manifest, _ = write_training_set(
        a_spec(cut_off=300, end=300), store, tmp_path, options=read_options(slice_s=50)
    )
    frame = pl.read_parquet(tmp_path / FILE)
    assert manifest.mature_until_us == us(300 - WAIT_S)
    assert us(150) < frame["decision_time_us"].max() < us(300 - WAIT_S)  # type: ignore[operator]
    assert manifest.rows == frame.height
    assert manifest.labelled == frame["label"].is_not_null().sum()
    assert (
        0 < manifest.labelled < manifest.rows
    )  # decisions whose wait passed without an event stay, unlabelled


def test_the_file_has_the_rows_that_its_manifest_describes(tmp_path: Path) -> None:
    store = full_of(orders(seed=2, count=60))
    manifest, new = write_training_set(a_spec(), store, tmp_path, options=read_options(slice_s=40))
    assert new
    frame = pl.read_parquet(tmp_path / FILE)
    assert content_sha256(frame) == manifest.content_sha256
    assert frame.equals(
        rows(store, slice_s=10_000).frame.filter(
            (pl.col("decision_time_us") >= us(0))
            & (pl.col("decision_time_us") < us(LAST_S - WAIT_S))
        )
    )
    assert read_manifest(tmp_path) == manifest
    assert manifest.delta_versions == {"order.placed": 1, "order.shipped": 1, "order.dropped": 1}
    assert manifest.offsets["order.placed-0"][0] == 0
    assert set(manifest.schema_ids) == {v.name for v in SERVICE.views}
    assert sorted(p.name for p in tmp_path.iterdir()) == [MANIFEST, FILE]


def test_the_keys_of_both_manifests_are_stable() -> None:
    """Users and stored runs read these keys: a key may be added, but none removed or changed."""
    common = {"service", "label", "start_us", "end_us", "known_before_us", "rows", "labelled"}
    assert set(RowsManifest.__struct_encode_fields__) == common | {"tables", "sha256"}
    assert set(TableUse.__struct_encode_fields__) == {"delta_version", "rows_read", "offsets"}
    assert set(Manifest.__struct_encode_fields__) == common | {
        *("mature_until_us", "content_sha256", "file_sha256"),
        *("delta_versions", "offsets", "schema_ids", "code", "parts"),
    }
    assert set(Code.__struct_encode_fields__) == {
        *("eventide", "commit", "python", "polars", "packages"),
    }


def test_a_manifest_names_the_views_whose_declaration_was_changed_since(tmp_path: Path) -> None:
    store = full_of(orders(seed=3, count=60))
    manifest, _ = write_training_set(a_spec(), store, tmp_path, options=read_options(slice_s=40))
    views = {view.name: state_of(view).identity for view in SERVICE.views}
    assert changed_views(manifest, views) == {}
    first, *others = manifest.schema_ids
    older = {first: {**manifest.parts[first], "its reach": "of before"}}
    changed = structs.replace(
        manifest,
        schema_ids={
            first: 1,
            **{v: views[v].earlier_ids[0] for v in others},
        },  # as 0.1.0 wrote them
        parts=older,
    )
    assert changed_views(changed, views).keys() == {first}
    assert changed_views(changed, views)[first][0].startswith("its reach")
    of_0_1_0 = structs.replace(changed, parts={})
    assert changed_views(of_0_1_0, views) == {first: []}


def test_an_equal_training_set_is_kept_and_a_different_one_refused(tmp_path: Path) -> None:
    store = full_of(orders(seed=3, count=60))
    manifest, _ = write_training_set(a_spec(), store, tmp_path, options=read_options(slice_s=40))
    repeated = write_training_set(a_spec(), store, tmp_path, options=read_options(slice_s=7))
    assert repeated == (manifest, False)
    bytes_before = (tmp_path / FILE).read_bytes()
    with pytest.raises(TrainingSetDiffers, match="another training set"):
        write_training_set(a_spec(start=100), store, tmp_path, options=read_options(slice_s=40))
    assert (tmp_path / FILE).read_bytes() == bytes_before
    assert read_manifest(tmp_path) == manifest


def test_a_damaged_file_is_written_again(tmp_path: Path) -> None:
    store = full_of(orders(seed=3, count=60))
    manifest, _ = write_training_set(a_spec(), store, tmp_path, options=read_options(slice_s=40))
    (tmp_path / FILE).write_bytes(b"cut off")
    assert write_training_set(a_spec(), store, tmp_path, options=read_options(slice_s=40)) == (
        manifest,
        True,
    )
    assert content_sha256(pl.read_parquet(tmp_path / FILE)) == manifest.content_sha256


def test_no_decision_gives_an_empty_set_of_the_same_columns(tmp_path: Path) -> None:
    store = full_of(orders(seed=3, count=60))
    spec = a_spec(start=LAST_S - 1)
    manifest, _ = write_training_set(spec, store, tmp_path, options=read_options(slice_s=40))
    assert (manifest.rows, manifest.labelled) == (0, 0)
    assert pl.read_parquet(tmp_path / FILE).schema == rows(store, slice_s=40).frame.schema


def test_a_late_label_counts_and_of_several_the_first_known_one() -> None:
    about: dict[str, Any] = {"order": "o0", "due": 20}
    deliveries = [
        Delivery(event="order.placed", id="p", happened=0, known=0, **about),
        Delivery(event=SHIPPED.name, id="s1", happened=380, known=380, parcels=1, **about),
        Delivery(event=SHIPPED.name, id="s2", happened=100, known=390, parcels=0, **about),
    ]
    for slice_s in (10, 1_000):
        frame = rows(full_of(deliveries), slice_s=slice_s).frame
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
def test_slicing_content_does_not_change_its_hash(texts: list[str | None], cuts: list[int]) -> None:
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


def test_values_with_other_boundaries_have_other_hashes() -> None:
    frames = [
        pl.DataFrame({"a": values}, schema={"a": pl.String})
        for values in (["ab", "c"], ["a", "bc"], ["abc", None], ["abc", ""], [None, "abc"])
    ]
    assert len({content_sha256(f) for f in frames}) == len(frames)

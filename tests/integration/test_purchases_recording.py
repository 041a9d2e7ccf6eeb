"""The recording holds what the file holds, day by day, and is the same wherever it is built."""

import hashlib
import tarfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from features.catalog.purchases import events
from features.catalog.purchases.recording import RECORDING
from features.definitions import EventType
from features.replay.recordings import build
from infra.clock import DAY
from tests.support.data.recordings import purchases, purchases_file, purchases_source

COUNTS = {"purchase.made": 69_659, "purchase.forecast_requested": 67_591}
CONTENT = "911752aa449fba0be4256529d9beb51e5345c7d558eaa7d4adc8da2d297a895c"


@cache
def _decoded(event: EventType) -> pl.DataFrame:
    recorded = purchases().filter(event=event.name)
    rows = recorded["payload"].cast(pl.String).str.json_decode(infer_schema_length=None)
    return rows.struct.unnest().with_columns(known_at_us=recorded["known_at_us"])


@pytest.fixture(scope="module")
def source() -> pl.DataFrame:
    """The file, column by column, and its dollars as it writes them."""
    with tarfile.open(purchases_source()) as archive:
        (member,) = [m for m in archive.getmembers() if m.name.endswith("/CDNOW_master.txt")]
        lines = archive.extractfile(member).read().decode().splitlines()[1:]  # type: ignore[union-attr]
    names = ("customer_id", "date", "quantity", "dollars")
    return pl.DataFrame([dict(zip(names, line.split(), strict=True)) for line in lines])


def test_every_purchase_and_every_request_is_recorded_once() -> None:
    assert dict(purchases()["event"].value_counts().iter_rows()) == COUNTS
    assert purchases()["event_id"].n_unique() == len(purchases())
    assert _decoded(events.MADE)["customer_id"].n_unique() == 23_570


def test_events_are_in_the_order_of_emission() -> None:
    assert purchases()["known_at_us"].is_sorted()


@pytest.mark.parametrize("event", events.ALL, ids=lambda e: e.name)
def test_every_payload_fits_its_record_and_names_its_key(event: EventType) -> None:
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(event.record).decode
    recorded = purchases().filter(event=event.name)
    for key, event_id, payload in recorded.select("key", "event_id", "payload").iter_rows():
        record = decode(payload)
        assert (getattr(record, event.key), record.event_id) == (key, event_id)


def test_customers_days_quantities_and_amounts_are_those_of_the_file(source: pl.DataFrame) -> None:
    ours = _decoded(events.MADE).select(
        "customer_id",
        pl.from_epoch("event_time_us", time_unit="us").dt.strftime("%Y%m%d").alias("date"),
        pl.col("quantity").cast(pl.String),
        pl.format(
            "{}.{}",
            pl.col("amount_cents") // 100,
            (pl.col("amount_cents") % 100).cast(pl.String).str.zfill(2),
        ).alias("dollars"),
    )
    assert ours.sort(ours.columns).equals(source.sort(ours.columns))


def test_the_irregularities_are_as_frequent_as_documented(source: pl.DataFrame) -> None:
    days = source.group_by("customer_id", "date").len()["len"]
    cents = (source["dollars"].cast(pl.Float64) * 100).cast(pl.Int64)
    assert (int((days > 1).sum()), int((days - 1).sum()), days.max()) == (1_774, 2_068, 16)
    assert len(source) - source.n_unique() == 255
    assert (source["dollars"] == "0.00").sum() == 80
    assert (cents != source["dollars"].str.replace(".", "", literal=True).cast(pl.Int64)).sum() == (
        3_884
    )
    assert source.group_by("customer_id").agg(pl.col("date").min())["date"].max() == "19970325"


def test_purchases_are_reported_at_once_and_never_at_midnight() -> None:
    bought = _decoded(events.MADE)
    assert (bought["known_at_us"] == bought["event_time_us"]).all()
    assert (bought["event_time_us"] % DAY != 0).all()


def test_a_prediction_is_requested_at_the_end_of_each_day_with_a_purchase() -> None:
    requests, bought = _decoded(events.REQUESTED), _decoded(events.MADE)
    assert (requests["known_at_us"] == requests["event_time_us"]).all()
    ends = bought.select("customer_id", (pl.col("event_time_us") // DAY + 1) * DAY).unique()
    assert requests.select(ends.columns).sort(ends.columns).equals(ends.sort(ends.columns))


def test_the_recording_is_the_same_bit_for_bit_wherever_it_is_built(tmp_path: Path) -> None:
    (tmp_path / RECORDING.source.file_name).symlink_to(purchases_source())
    assert build(RECORDING, tmp_path).read_bytes() == purchases_file().read_bytes()
    digest = hashlib.sha256()
    for row in purchases().iter_rows():
        digest.update(repr(row).encode())
    assert digest.hexdigest() == CONTENT

"""Training rows: values known at the decision, and the same rows on every call."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.catalog import event_types
from features.catalog.flights.events import DEPARTED, LANDED, REQUESTED, SCHEDULED
from features.catalog.flights.services import FLIGHT_DELAY, LATE_15
from features.catalog.flights.views import ALL
from features.contracts.codec import decode
from features.definitions import EventType
from features.engine.columns import field_tuples
from features.engine.event_rows import EventRows
from features.errors import DataNotReady, FeatureError
from features.ingestion.compaction_watermark import CompactionWatermark
from features.ingestion.offline_sink import OfflineSink
from features.ingestion.online_sink import OnlineSink
from features.maintenance.consistency import same_values
from features.retrieval.content_hash import content_sha256
from features.retrieval.historical import TrainingRows, training_rows
from features.retrieval.manifest import TableUse
from features.retrieval.online import FeatureReader
from features.stores.memory import MemoryOfflineStore, MemoryOnlineStore
from infra.clock import DAY, HOUR, MINUTE
from infra.kafka.partitions import Partition
from tests.support.data.recordings import flights

NOON_US = 1_357_041_600_000_000
EVENTS = {e.name: e for e in event_types()}


class GrowingHistory:
    """An offline store that is filled one event at a time."""

    def __init__(self) -> None:
        self.store = MemoryOfflineStore()
        self._next: dict[str, int] = {}

    def append(self, event: EventType, *, known_us: int, **fields: Any) -> None:
        at = self._next.get(event.name, 0)
        self._next[event.name] = at + 1
        record = event.record(**_FIELDS[event.name] | {"event_time_us": known_us} | fields)
        rows = rows_of(event, [record], offsets=[at], known_us=[known_us])
        buffer = OfflineSink(self.store, EVENTS, clock_us=lambda: NOON_US)
        buffer.load([Partition(event.name, 0)])
        buffer.add([rows], {Partition(event.name, 0): at + 1})
        buffer.flush()

    def rows(self, **changes: Any) -> TrainingRows:
        span = {
            "start_us": NOON_US,
            "end_us": NOON_US + DAY,
            "known_before_us": NOON_US + 2 * DAY,
            "ready_tolerance_us": 3 * DAY,
        }
        return training_rows(FLIGHT_DELAY, LATE_15, self.store, **span | changes)


_FLIGHT = {
    "event_id": "e1",
    "flight_id": "f1",
    "carrier": "UA",
    "flight": 1,
    "origin": "EWR",
    "dest": "IAH",
    "tailnum": None,
}
_FIELDS: dict[str, dict[str, Any]] = {
    SCHEDULED.name: _FLIGHT
    | {
        "distance_miles": 1_400,
        "scheduled_departure_us": NOON_US + 2 * HOUR,
        "scheduled_arrival_us": NOON_US + 5 * HOUR,
        "local_minute": 540,
        "weekday": 2,
    },
    DEPARTED.name: _FLIGHT | {"departure_delay_minutes": 30},
    LANDED.name: _FLIGHT | {"arrival_delay_minutes": 20, "air_time_minutes": None},
}
DECISION_US = NOON_US + HOUR  # an hour before the scheduled departure


def rows_of(
    event: EventType, records: Sequence[Any], *, offsets: Sequence[int], known_us: Sequence[int]
) -> EventRows:
    return EventRows(
        event=event,
        fields=field_tuples(records, event.fields),
        partition=np.zeros(len(records), np.int64),
        offset=np.array(offsets, np.int64),
        known_at_us=np.array(known_us, np.int64),
    )


@pytest.fixture
def history() -> GrowingHistory:
    """One flight that was scheduled the day before."""
    history = GrowingHistory()
    history.append(SCHEDULED, known_us=NOON_US - DAY)
    return history


def test_a_row_has_the_request_the_features_and_the_label(history: GrowingHistory) -> None:
    history.append(DEPARTED, known_us=DECISION_US - 10 * MINUTE, flight_id="f0", event_id="d0")
    history.append(LANDED, known_us=NOON_US + 6 * HOUR)
    frame = history.rows().frame
    assert frame.columns == [
        "entity_id",
        "decision_time_us",
        *FLIGHT_DELAY.categories,
        *FLIGHT_DELAY.numbers,
        "label",
        "label_known_at_us",
    ]
    row = frame.row(0, named=True)
    assert (row["entity_id"], row["decision_time_us"]) == ("f1", DECISION_US)
    assert (row["carrier"], row["distance_miles"], row["block_minutes"]) == ("UA", 1_400.0, 180.0)
    assert (row["origin_departures_count_1h"], row["origin_departures_mean_delay_1h"]) == (1, 30)
    assert (row["label"], row["label_known_at_us"]) == (1, NOON_US + 6 * HOUR)


def test_events_known_at_the_decision_or_later_do_not_count(history: GrowingHistory) -> None:
    for n, known_us in enumerate((DECISION_US - 1, DECISION_US, DECISION_US + 1)):
        history.append(
            DEPARTED, known_us=known_us, event_time_us=DECISION_US - HOUR, event_id=f"d{n}"
        )
    assert history.rows().frame["origin_departures_count_1h"].to_list() == [1]


def test_a_label_known_after_the_cut_off_is_null(history: GrowingHistory) -> None:
    cut_off = NOON_US + 2 * DAY
    history.append(LANDED, known_us=cut_off, event_time_us=NOON_US + 6 * HOUR)
    assert history.rows().frame["label"].to_list() == [None]
    assert history.rows(known_before_us=cut_off + 1).frame["label"].to_list() == [1]


def test_a_decision_known_after_the_cut_off_is_excluded(history: GrowingHistory) -> None:
    history.append(SCHEDULED, known_us=NOON_US + 2 * DAY, flight_id="f2", event_id="e2")
    assert history.rows().frame["entity_id"].to_list() == ["f1"]


def test_decisions_span_a_half_open_interval(history: GrowingHistory) -> None:
    assert history.rows(start_us=DECISION_US).frame.height == 1
    assert history.rows(start_us=DECISION_US + 1).frame.height == 0
    assert history.rows(end_us=DECISION_US + 1).frame.height == 1
    assert history.rows(end_us=DECISION_US).frame.height == 0


def test_an_event_that_was_sent_twice_makes_one_row(history: GrowingHistory) -> None:
    history.append(SCHEDULED, known_us=NOON_US - DAY + 1)
    history.append(DEPARTED, known_us=DECISION_US - 9, event_id="d0")
    history.append(DEPARTED, known_us=DECISION_US - 8, event_id="d0")
    assert history.rows().frame["origin_departures_count_1h"].to_list() == [1]


def test_a_flight_that_is_announced_again_is_decided_once_at_its_new_time(
    history: GrowingHistory,
) -> None:
    history.append(
        SCHEDULED,
        known_us=NOON_US - HOUR,
        event_id="e2",
        scheduled_departure_us=NOON_US + 4 * HOUR,
        scheduled_arrival_us=NOON_US + 8 * HOUR,
    )
    (row,) = history.rows().frame.to_dicts()
    assert (row["decision_time_us"], row["block_minutes"]) == (NOON_US + 3 * HOUR, 240.0)


def test_the_same_call_gives_the_same_content_after_later_events(history: GrowingHistory) -> None:
    history.append(DEPARTED, known_us=DECISION_US - HOUR, event_id="d0")
    earlier = history.rows()
    cut_off = NOON_US + 2 * DAY
    history.append(DEPARTED, known_us=cut_off, event_time_us=DECISION_US - 5, event_id="d1")
    history.append(LANDED, known_us=cut_off + 1)
    history.append(SCHEDULED, known_us=cut_off + 2, flight_id="f9", event_id="e9")
    later = history.rows()

    assert earlier.manifest.sha256 == later.manifest.sha256
    assert earlier.frame.equals(later.frame)
    pinned = history.rows(versions={DEPARTED.name: 1, SCHEDULED.name: 1})
    assert pinned.manifest.tables["flight.departed"] == TableUse(
        delta_version=1, rows_read=1, offsets={"flight.departed-0": (0, 0)}
    )


def test_the_content_hash_depends_on_every_value() -> None:
    frame = pl.DataFrame({"a": [1.0, float("nan")], "b": ["x", None], "c": [1, None]})
    same = pl.DataFrame({"a": [1.0, float("nan")], "b": ["x", None], "c": [1, None]})
    assert content_sha256(frame) == content_sha256(same)
    changes = [
        pl.Series("a", [1.0, 2.0]),
        pl.Series("b", ["x", ""]),
        pl.Series("b", ["y", None]),
        pl.Series("c", [1, 0]),
    ]
    hashes = {content_sha256(frame.with_columns(c)) for c in changes} | {content_sha256(frame)}
    assert len(hashes) == 5


def test_a_store_that_ends_before_the_cut_off_is_not_ready(history: GrowingHistory) -> None:
    with pytest.raises(DataNotReady, match="2012-12-31") as caught:
        history.rows(ready_tolerance_us=DAY)
    assert "ingest" in (caught.value.hint or "")
    with pytest.raises(DataNotReady, match="is empty"):
        GrowingHistory().rows()


def test_decisions_after_the_cut_off_are_refused(history: GrowingHistory) -> None:
    with pytest.raises(FeatureError, match="cannot be known"):
        history.rows(end_us=NOON_US + 3 * DAY)


def test_no_decision_gives_an_empty_frame_of_the_same_columns(history: GrowingHistory) -> None:
    empty = history.rows(start_us=NOON_US + 23 * HOUR).frame
    assert empty.schema == history.rows().frame.schema


@pytest.mark.slow
def test_live_vectors_of_real_flights_equal_their_training_rows() -> None:
    """Two weeks of flights in order of emission; requests are read after their batch is applied."""
    recorded = flights().head(44_000)
    offline, online = MemoryOfflineStore(), MemoryOnlineStore()
    partitions = [Partition(name, 0) for name in EVENTS]
    buffer = OfflineSink(offline, EVENTS, clock_us=lambda: NOON_US)
    writer = OnlineSink(
        online,
        ALL,
        duplicate_horizon_us=48 * HOUR,
        watermark=CompactionWatermark(least_us=12 * HOUR, most_us=12 * HOUR),
    )
    buffer.load(partitions)
    writer.load(partitions)
    reader = FeatureReader(FLIGHT_DELAY, online)
    live: dict[Any, Any] = {}
    offsets = dict.fromkeys(EVENTS, 0)
    for batch in recorded.iter_slices(500):
        decoded, requests = [], []
        for (name,), part in batch.group_by("event", maintain_order=True):
            event = EVENTS[str(name)]
            records = [decode(event, payload) for payload in part["payload"]]
            at = range(offsets[event.name], offsets[event.name] + len(records))
            offsets[event.name] = at.stop
            times_us = part["known_at_us"].to_list()
            decoded.append(rows_of(event, records, offsets=at, known_us=times_us))
            if event is REQUESTED:
                requests = records
        positions = {p: offsets[p.topic] for p in partitions}
        writer.write(decoded, positions)
        buffer.add(decoded, positions)
        if not requests:
            continue
        as_of = np.array([r.event_time_us for r in requests])
        vectors = reader.vectors(requests, as_of)
        assert vectors.exact.all()
        live |= dict(zip([r.flight_id for r in requests], vectors.numbers, strict=True))
    buffer.flush()

    end_us = int(recorded["known_at_us"].max())  # type: ignore[arg-type]
    rows = training_rows(
        FLIGHT_DELAY, LATE_15, offline, start_us=0, end_us=end_us, known_before_us=end_us
    ).frame.filter(pl.col("entity_id").is_in(list(live)))
    expected = rows.select(FLIGHT_DELAY.numbers).to_numpy()
    live_values = np.array([live[flight] for flight in rows["entity_id"]])
    assert rows.height > 9_000
    assert same_values(live_values, expected).all()

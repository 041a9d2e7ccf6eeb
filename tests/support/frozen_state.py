"""A small frozen copy of the state that a release writes; later releases must still read it.

    python -m tests.support.frozen_state RELEASE

writes `tests/support/frozen/RELEASE.tar.xz` with the code of this tree: an LMDB online store, Delta
tables, and the features that release computed from them. `tests/unit/test_frozen_state.py` reads
all of them with the code of today.
"""

import json
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

from features.catalog.flights import DOMAIN
from features.catalog.flights.services import FLIGHT_DELAY, LATE_15
from features.contracts.codec import decode
from features.engine.columns import field_tuples
from features.engine.event_rows import EventRows
from features.ingestion.compaction_watermark import CompactionWatermark
from features.ingestion.offline_sink import OfflineSink
from features.ingestion.online_sink import OnlineSink
from features.retrieval.historical import training_rows
from features.retrieval.online import FeatureReader, FeatureVectors
from features.stores.delta.store import DeltaOfflineStore
from features.stores.lmdb import LmdbOnlineStore
from infra.clock import DAY, HOUR
from infra.kafka.partitions import Partition
from tests.support.data.recordings import flights

FOLDER = Path(__file__).parent / "frozen"
FIRST, EVENTS, BATCH, REQUESTS = 3_250, 1_700, 100, 40  # the register of aircraft comes first
REQUEST = FLIGHT_DELAY.decision.request


def main(release: str) -> None:
    """Write the state of this release."""
    with TemporaryDirectory() as work:
        folder = Path(work)
        ingest(folder, flights().slice(FIRST, EVENTS))
        (folder / "answers.json").write_text(json.dumps(computed_features(folder), sort_keys=True))
        FOLDER.mkdir(exist_ok=True)
        with tarfile.open(FOLDER / f"{release}.tar.xz", "w:xz") as archive:
            archive.add(folder, arcname=".")


def ingest(folder: Path, events: pl.DataFrame) -> None:
    """Write recorded events into both stores of a folder, as ingest does, without a broker."""
    positions = dict.fromkeys(partitions(), 0)
    online = LmdbOnlineStore(str(folder / "online"))
    sink = OnlineSink(
        online,
        DOMAIN.views,
        duplicate_horizon_us=48 * HOUR,
        watermark=CompactionWatermark(least_us=HOUR, most_us=HOUR),
    )
    offline = OfflineSink(open_offline(folder), DOMAIN.by_name, clock_us=lambda: 0)
    sink.load(partitions())
    offline.load(partitions())
    for batch in events.iter_slices(BATCH):
        rows = [r for event in DOMAIN.events if (r := rows_of(event.name, batch, positions))]
        ends = {Partition(r.event.name, 0): int(r.offset[-1]) + 1 for r in rows}
        sink.write(rows, ends)
        offline.add(rows, ends)
        positions |= ends
    offline.flush()
    online.close()


def partitions() -> list[Partition]:
    """The partitions of the recorded events, one for each event type."""
    return [Partition(event.name, 0) for event in DOMAIN.events]


def rows_of(name: str, batch: pl.DataFrame, positions: dict[Partition, int]) -> EventRows | None:
    """The events of one type as the ingest loop passes them on; None without any."""
    event, part = DOMAIN.by_name[name], batch.filter(event=name)
    if part.is_empty():
        return None
    start = positions[Partition(name, 0)]
    return EventRows(
        event=event,
        fields=field_tuples([decode(event, p) for p in part["payload"]], event.fields),
        partition=np.zeros(part.height, np.int64),
        offset=np.arange(start, start + part.height),
        known_at_us=part["known_at_us"].to_numpy(),
    )


def open_offline(folder: Path) -> DeltaOfflineStore:
    """The offline store of a folder."""
    return DeltaOfflineStore(str(folder / "offline"), DOMAIN.events)


def computed_features(folder: Path) -> dict[str, Any]:
    """What this code computes from the two stores of a folder: vectors of live requests, and the
    hash of a training set."""
    requests = [decode(REQUEST, payload) for payload in _requests()]
    as_of_us = np.array([r.event_time_us for r in requests], np.int64)
    online = LmdbOnlineStore(str(folder / "online"), readonly=True)
    vectors = FeatureReader(FLIGHT_DELAY, online).vectors(requests, as_of_us)
    start_us, end_us = int(as_of_us.min()), int(as_of_us.max())
    training = training_rows(
        FLIGHT_DELAY,
        LATE_15,
        open_offline(folder),
        start_us=start_us - DAY,
        end_us=end_us,
        known_before_us=end_us,
        ready_tolerance_us=DAY,
    )
    return {
        "positions": {p.topic: offset for p, offset in online.positions().items()},
        "schema_ids": dict(online.schema_ids()),
        **_plain(vectors),
        "training_rows": training.frame.height,
        "training_sha256": training.manifest.sha256,
    }


def _plain(vectors: FeatureVectors) -> dict[str, Any]:
    """Floats as hexadecimal text, so that every bit is kept."""
    return {
        "categories": vectors.categories,
        "numbers": [[float(v).hex() for v in row] for row in vectors.numbers],
        "exact": vectors.exact.tolist(),
    }


def _requests() -> Sequence[bytes]:
    """The first requests emitted after the stored events."""
    later = flights().slice(FIRST + EVENTS).filter(event=REQUEST.name)
    return later["payload"].head(REQUESTS).to_list()


if __name__ == "__main__":
    main(sys.argv[1])

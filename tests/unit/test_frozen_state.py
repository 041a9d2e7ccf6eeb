"""The stored state of an earlier release is read without rebuild or migration, to the same bits."""

import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from features.catalog.flights import DOMAIN
from features.engine.value_format import ViewSchemaMismatch
from features.engine.view_states import state_of
from features.ingestion.compaction_watermark import CompactionWatermark
from features.ingestion.online_sink import OnlineSink
from features.stores.lmdb import LmdbOnlineStore
from infra.clock import HOUR
from tests.support.data.recordings import flights
from tests.support.frozen_state import (
    BATCH,
    EVENTS,
    FIRST,
    FOLDER,
    computed_features,
    open_offline,
    partitions,
    rows_of,
)

RELEASES = sorted(file.name.removesuffix(".tar.xz") for file in FOLDER.glob("*.tar.xz"))
# The ids of 0.1.0 compare bytecode, and its state was written under Python 3.11.
IS_ADOPTABLE = sys.version_info[:2] == (3, 11)


@pytest.fixture(params=RELEASES)
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    with tarfile.open(FOLDER / f"{request.param}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def stored_features(state: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((state / "answers.json").read_text())
    return content


def writer_of(online: LmdbOnlineStore) -> OnlineSink:
    watermark = CompactionWatermark(least_us=HOUR, most_us=HOUR)
    return OnlineSink(online, DOMAIN.views, duplicate_horizon_us=48 * HOUR, watermark=watermark)


def refused_with_a_reason(state: Path) -> None:
    online = LmdbOnlineStore(str(state / "online"))
    with pytest.raises(ViewSchemaMismatch, match=r"0\.1\.0.*version of Python") as caught:
        writer_of(online).load(partitions())
    assert "adopts them" in str(caught.value.hint)


def test_live_vectors_and_training_rows_equal_those_of_the_release(state: Path) -> None:
    if not IS_ADOPTABLE:
        refused_with_a_reason(state)
        return
    assert computed_features(state) == stored_features(state)


def test_its_schema_ids_are_replaced_by_those_of_today_once(state: Path) -> None:
    if not IS_ADOPTABLE:
        refused_with_a_reason(state)
        return
    online = LmdbOnlineStore(str(state / "online"))
    writer_of(online).load(partitions())
    assert online.schema_ids() == {v.name: state_of(v).schema_id for v in DOMAIN.views}
    recorded = online.declarations()
    assert {view: [*d.adopted] for view, d in recorded.items()} == {
        view: [schema_id] for view, schema_id in stored_features(state)["schema_ids"].items()
    }
    writer_of(online).load(partitions())
    assert online.declarations() == recorded
    adopted = {**stored_features(state), "schema_ids": online.schema_ids()}
    online.close()
    assert computed_features(state) == adopted


def test_ingest_continues_from_the_positions_of_the_release(state: Path) -> None:
    if not IS_ADOPTABLE:
        refused_with_a_reason(state)
        return
    online = LmdbOnlineStore(str(state / "online"))
    sink = writer_of(online)
    positions = sink.load(partitions())
    assert positions == open_offline(state).positions(DOMAIN.by_name)

    batch = flights().slice(FIRST + EVENTS, BATCH)
    starts = {p: positions.get(p, 0) for p in partitions()}
    rows = [r for event in DOMAIN.events if (r := rows_of(event.name, batch, starts))]
    ends = {p: starts[p] + len(r) for r in rows for p in partitions() if p.topic == r.event.name}
    sink.write(rows, ends)
    assert dict(online.positions()) == {**positions, **ends}
    for view in DOMAIN.views:
        page = online.page(view.name, after=b"", limit=10_000)
        state_of(view).verify(page.values, page.entities)

"""Training sets of a Delta store that keeps changing: later events, compaction, vacuum."""

from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from features.definitions import Domain
from features.errors import StoreUnavailable
from features.retrieval.manifest import Manifest
from features.retrieval.training_set import (
    read_manifest,
    spec_from_manifest,
    write_training_set,
)
from features.stores.delta.maintenance import DeltaMaintenance
from features.stores.delta.store import DeltaOfflineStore
from tests.support.data.flight_events import write_synthetic_flights
from tests.support.data.order_training_sets import (
    IN_PARCELS,
    SERVICE,
    a_spec,
    append,
    orders,
    read_options,
)
from tests.support.data.orders import EVENTS, PLACED, REQUESTED, SHIPPED, VIEWS, Delivery
from tests.support.processes.commands import environment, run

CUT_OFF = 250
DOMAIN = Domain(
    name="orders",
    events=(*EVENTS, REQUESTED),
    views=VIEWS,
    services=(SERVICE,),
    labels=(IN_PARCELS,),
    predictions_topic="order.predictions",
)


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """The events known before the cut-off, in two commits per table."""
    store = DeltaOfflineStore(str(tmp_path / "offline"), EVENTS)
    known = [e for e in deliveries() if e.known < CUT_OFF]
    append(store, known[: len(known) // 2])
    append(store, known[len(known) // 2 :])
    return tmp_path / "offline"


def deliveries() -> list[Delivery]:
    return orders(seed=7, count=80)


def export(tables: Path, out: Path, *, cut_off: int = CUT_OFF, slice_s: int = 40) -> Manifest:
    """Export from a newly opened store."""
    store = DeltaOfflineStore(str(tables), EVENTS)
    spec = a_spec(cut_off=cut_off, end=CUT_OFF)
    return write_training_set(spec, store, out, options=read_options(slice_s=slice_s))[0]


def append_later_events(tables: Path) -> None:
    """Append what becomes known from the cut-off on: new orders, and late events of older ones."""
    store = DeltaOfflineStore(str(tables), EVENTS)
    append(store, [e for e in deliveries() if e.known >= CUT_OFF])
    late_fields: dict[str, Any] = {"shop": "a", "known": CUT_OFF, "happened": 100, "order": "late"}
    append(store, [Delivery(event=PLACED.name, id="late1", due=110, **late_fields)])
    append(store, [Delivery(event=SHIPPED.name, id="late2", parcels=1, **late_fields)])


def compact_and_vacuum(tables: Path, *, keep_hours: int) -> None:
    for event in EVENTS:
        table = DeltaTable(str(tables / event.name))
        assert table.optimize.compact()["numFilesRemoved"] > 0
        table.vacuum(keep_hours, dry_run=False, enforce_retention_duration=False)


def test_the_same_export_gives_the_same_rows_after_later_events(
    tables: Path, tmp_path: Path
) -> None:
    before = export(tables, tmp_path / "before")
    append_later_events(tables)
    compact_and_vacuum(tables, keep_hours=0)
    after = export(tables, tmp_path / "after", slice_s=11)
    assert before.rows > 20
    assert after.content_sha256 == before.content_sha256
    assert after.delta_versions != before.delta_versions
    later = export(tables, tmp_path / "later", cut_off=400)
    assert later.content_sha256 != before.content_sha256


def test_an_export_is_repeated_at_its_versions_while_their_files_are_kept(
    tables: Path, tmp_path: Path
) -> None:
    exported = export(tables, tmp_path / "set")
    append_later_events(tables)
    compact_and_vacuum(tables, keep_hours=168)
    store = DeltaOfflineStore(str(tables), EVENTS)
    spec = spec_from_manifest(read_manifest(tmp_path / "set"), [DOMAIN])
    repeated, _ = write_training_set(
        spec, store, tmp_path / "again", options=read_options(slice_s=25)
    )
    assert repeated.content_sha256 == exported.content_sha256
    assert (repeated.delta_versions, repeated.offsets) == (
        exported.delta_versions,
        exported.offsets,
    )

    for event in EVENTS:
        DeltaTable(str(tables / event.name)).vacuum(
            0, dry_run=False, enforce_retention_duration=False
        )
    with pytest.raises(StoreUnavailable, match="cannot read"):
        write_training_set(spec, store, tmp_path / "gone", options=read_options(slice_s=25))


def test_the_command_exports_repeats_and_refuses_a_conflicting_export(tmp_path: Path) -> None:
    env = environment(tmp_path / "state", "127.0.0.1:1")
    write_synthetic_flights(str(tmp_path / "state" / "offline"), days=6, flights_a_day=60)
    out = tmp_path / "set"
    command = ("features", "export", "flight_delay", "--label", "late15", "--out", str(out))
    span = ("--from", "2013-01-02", "--until", "2013-01-06", "--as-of", "2013-01-06")

    first = run(*command, *span, env=env)
    manifest = read_manifest(out)
    assert f"content sha256 {manifest.content_sha256}" in first.stdout
    assert "without the decisions from 2013-01-05 00:00 UTC on" in first.stdout
    assert manifest.rows > 100
    assert "already there" in run(*command, *span, "--slice-days", "0.5", env=env).stdout

    conflicting = run(*command, *span[:4], "--as-of", "2013-01-06T20:00", env=env, ok=False)
    assert conflicting.returncode == 1
    assert manifest.content_sha256[:12] in conflicting.stderr

    assert "the same" in run("features", "export", "--like", str(out), env=env).stdout
    file = out / "manifest.json"
    file.write_text(file.read_text().replace(manifest.content_sha256, "0" * 64))
    differs = run("features", "export", "--like", str(file), "--json", env=env, ok=False)
    assert differs.returncode == 1
    assert '"same":false' in differs.stdout


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    env = environment(tmp_path / "state", "127.0.0.1:1")
    without_label = run(
        "features", "export", "flight_delay", "--from", "2013-01-02", env=env, ok=False
    )
    assert without_label.returncode == 2
    assert "--label" in without_label.stderr
    with_like = run("features", "export", "flight_delay", "--like", "x", env=env, ok=False)
    assert with_like.returncode == 2
    now = ("--from", "2013-01-02", "--until", "2013-01-03", "--out", str(tmp_path / "out"))
    write_synthetic_flights(str(tmp_path / "state" / "offline"), days=2, flights_a_day=10)
    too_early = run(
        "features", "export", "flight_delay", "--label", "late15", *now, env=env, ok=False
    )
    assert too_early.returncode == 1
    assert "earlier cut-off" in too_early.stderr


def test_a_vacuum_keeps_the_versions_that_an_export_was_built_from(
    tables: Path, tmp_path: Path
) -> None:
    exported = export(tables, tmp_path / "set")
    store = DeltaOfflineStore(str(tables), EVENTS)
    pinned = {pin.event: pin.version for pin in store.pins()}
    assert pinned == exported.delta_versions
    append_later_events(tables)
    for event in EVENTS:
        DeltaTable(str(tables / event.name)).optimize.compact()
        DeltaMaintenance(str(tables)).vacuum(event, retention_hours=0, keep=[pinned[event.name]])
    spec = spec_from_manifest(exported, [DOMAIN])
    repeated, _ = write_training_set(
        spec, store, tmp_path / "again", options=read_options(slice_s=25)
    )
    assert repeated.content_sha256 == exported.content_sha256

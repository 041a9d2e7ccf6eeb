"""A training set as a file, written slice by slice, with a manifest to compute it again from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import msgspec

from features.definitions import Domain, FeatureService, Label
from features.engine.view_states import state_of
from features.errors import FeatureError
from features.retrieval.event_log import DUPLICATE_HORIZON_US, EventLog
from features.retrieval.field_sets import sources
from features.retrieval.historical import (
    SLICE_US,
    RowsSummary,
    training_slices,
)
from features.retrieval.manifest import Manifest, changed_views, file_manifest
from features.retrieval.readiness import READY_TOLERANCE_US, Ends, require_ready
from features.stores.ports import OfflineStore
from infra.atomic import atomic_file, write_atomic
from infra.clock import from_us, span_us
from infra.process.progress import ProgressCallback

if TYPE_CHECKING:
    import polars as pl

FILE, MANIFEST = "training_set.parquet", "manifest.json"


class TrainingSetDiffers(FeatureError):
    """The folder holds another training set. It was not changed."""

    hint = "name another folder, or remove this one"

    def __init__(self, folder: Path, *, stored: str, computed: str) -> None:
        self.folder, self.stored, self.computed = folder, stored, computed
        super().__init__(
            f"{folder} holds another training set, with the content"
            f" {stored[:12]}, not {computed[:12]}"
        )


@dataclass(frozen=True, kw_only=True)
class TrainingSetSpec:
    """What to export. `versions`: event name -> version of its table, instead of the newest.

    Raises FeatureError when the decisions would end after the cut-off.
    """

    service: FeatureService
    label: Label
    start_us: int
    end_us: int
    known_before_us: int
    versions: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        if self.end_us > self.known_before_us:
            raise FeatureError(
                f"decisions until {from_us(self.end_us)} cannot be known by"
                f" {from_us(self.known_before_us)}",
                hint="let the decisions end earlier, or choose a later cut-off",
            )

    @property
    def mature_until_us(self) -> int:
        """Decisions before this time are `max_wait` of their label old at the cut-off."""
        mature_us = self.known_before_us - span_us(self.label.max_wait)
        return max(self.start_us, min(self.end_us, mature_us))


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How history is read. Only the horizon changes the rows. `ends`: see `require_ready`."""

    slice_us: int = SLICE_US
    duplicate_horizon_us: int = DUPLICATE_HORIZON_US
    ready_tolerance_us: int = READY_TOLERANCE_US
    ends: Ends | None = None
    on_progress: ProgressCallback | None = None


def write_training_set(
    spec: TrainingSetSpec,
    store: OfflineStore,
    folder: Path,
    *,
    options: ReadOptions | None = None,
) -> tuple[Manifest, bool]:
    """Write `training_set.parquet` and `manifest.json`; returns the manifest, and if it is new.

    A folder that already holds the same rows is not changed. The manifest is written last, so a
    file without a manifest is incomplete. The table versions in the manifest are pinned: no
    maintenance deletes their files.

    Raises:
        TrainingSetDiffers: the folder holds other rows.
        CheckFailed, DataNotReady, StoreUnavailable: see `training_rows` in `historical`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".draft-") as draft:
        new_file = Path(draft) / FILE
        manifest = _write(spec, store, new_file, options or ReadOptions())
        before = read_manifest(folder) if (folder / MANIFEST).exists() else None
        if before and before.content_sha256 != manifest.content_sha256:
            raise TrainingSetDiffers(
                folder, stored=before.content_sha256, computed=manifest.content_sha256
            )
        if before and _is(folder / FILE, before.file_sha256):
            return before, False
        with atomic_file(folder / FILE) as draft_file:
            new_file.replace(draft_file)
    _pin(spec, store, folder, manifest)
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    write_atomic(folder / MANIFEST, content)
    return manifest, True


def repeat_training_set(
    manifest: Manifest,
    domains: Sequence[Domain],
    store: OfflineStore,
    *,
    options: ReadOptions | None = None,
) -> Manifest:
    """Compute the rows of a manifest again, at its versions; returns the new manifest only.

    Raises: see `write_training_set`, and `find_service_and_label`.
    """
    spec = spec_from_manifest(manifest, domains)
    with TemporaryDirectory(prefix="eventide-") as draft:
        return _write(spec, store, Path(draft) / FILE, options or ReadOptions())


def spec_from_manifest(manifest: Manifest, domains: Sequence[Domain]) -> TrainingSetSpec:
    """The spec of a manifest's training set, at the versions of its tables.

    Raises:
        FeatureError: its service or its label is not declared any more.
    """
    service, label = find_service_and_label(domains, manifest.service, manifest.label)
    return TrainingSetSpec(
        service=service,
        label=label,
        start_us=manifest.start_us,
        end_us=manifest.end_us,
        known_before_us=manifest.known_before_us,
        versions=manifest.delta_versions,
    )


def changed_declarations(manifest: Manifest, domains: Sequence[Domain]) -> dict[str, list[str]]:
    """The views of a manifest's service whose declaration is another one now, and what was changed.

    Raises:
        FeatureError: its service or its label is not declared any more.
    """
    service, _ = find_service_and_label(domains, manifest.service, manifest.label)
    return changed_views(manifest, {v.name: state_of(v).identity for v in service.views})


def find_service_and_label(
    domains: Sequence[Domain], service: str, label: str
) -> tuple[FeatureService, Label]:
    """The service and the label of those names, both of one domain.

    Raises:
        FeatureError: there is none.
    """
    services = {s.name: (s, d) for d in domains for s in d.services}
    if service not in services:
        raise FeatureError(f"no service {service!r}", hint=f"declared: {sorted(services)}")
    declared_service, domain = services[service]
    labels = {declared.name: declared for declared in domain.labels}
    if label not in labels:
        raise FeatureError(
            f"no label {label!r} in the domain {domain.name}", hint=f"declared: {sorted(labels)}"
        )
    return declared_service, labels[label]


def read_manifest(place: Path) -> Manifest:
    """The manifest in a folder, or the manifest itself.

    Raises:
        FeatureError: there is none that can be read.
    """
    file = place / MANIFEST if place.is_dir() else place
    try:
        return msgspec.json.decode(file.read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError) as error:
        raise FeatureError(f"{file} is not the manifest of a training set: {error}") from error


def _write(
    spec: TrainingSetSpec, store: OfflineStore, file: Path, options: ReadOptions
) -> Manifest:
    event_log = EventLog(store, versions=spec.versions, horizon_us=options.duplicate_horizon_us)
    if spec.versions is None:
        require_ready(
            event_log,
            spec.service,
            spec.label,
            cutoff_us=spec.known_before_us,
            tolerance_us=options.ready_tolerance_us,
            ends=options.ends,
        )
    event_log.pin_newest(sources(spec.service, spec.label))
    with _ParquetFile(file) as parquet:
        for piece in training_slices(
            spec.service,
            spec.label,
            event_log,
            start_us=spec.start_us,
            end_us=spec.mature_until_us,
            known_before_us=spec.known_before_us,
            slice_us=options.slice_us,
            on_progress=options.on_progress,
        ):
            parquet.add(piece)
    return _manifest(spec, event_log, parquet.summary, file)


def _manifest(
    spec: TrainingSetSpec, event_log: EventLog, summary: RowsSummary, file: Path
) -> Manifest:
    of_rows = summary.manifest(
        spec.service,
        spec.label,
        tables=event_log.used,
        start_us=spec.start_us,
        end_us=spec.end_us,
        known_before_us=spec.known_before_us,
    )
    return file_manifest(
        of_rows,
        mature_until_us=spec.mature_until_us,
        file_sha256=_file_sha256(file),
        delta_versions=event_log.versions or {},
        identities={view.name: state_of(view).identity for view in spec.service.views},
    )


def _pin(spec: TrainingSetSpec, store: OfflineStore, folder: Path, manifest: Manifest) -> None:
    events = {e.name: e for e in sources(spec.service, spec.label)}
    for name, version in manifest.delta_versions.items():
        store.pin(events[name], version, f"training set {folder.resolve()}")


class _ParquetFile:
    """A Parquet file that grows by row groups, and a summary of its rows."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._writer: Any = None  # opened with the first piece, which has the schema
        self.summary = RowsSummary()

    def __enter__(self) -> _ParquetFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def add(self, piece: pl.DataFrame) -> None:
        """One row group."""
        import polars as pl
        from pyarrow.parquet import ParquetWriter

        self.summary.add(piece)
        table = piece.to_arrow(compat_level=pl.CompatLevel.oldest())
        if self._writer is None:
            self._writer = ParquetWriter(self._file, table.schema, compression="zstd")
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))


def _is(file: Path, sha256: str) -> bool:
    return file.is_file() and _file_sha256(file) == sha256


def _file_sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()

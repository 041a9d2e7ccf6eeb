"""A training set as a file, written slice by slice, with a manifest to make it again from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import msgspec

from features.definitions import Domain, FeatureService, Label
from features.engine.view_states import state_of
from features.errors import FeatureError
from features.retrieval.content_hash import ContentDigest
from features.retrieval.event_log import DUPLICATE_HORIZON_US, EventLog
from features.retrieval.historical import READY_TOLERANCE_US, SLICE_US, sources, training_slices
from features.stores.ports import OfflineStore
from infra.clock import from_us, span_us

if TYPE_CHECKING:
    import polars as pl

FILE, MANIFEST = "training_set.parquet", "manifest.json"
ProgressCallback = Callable[[int, int], None]  # slices that are done, slices in all


class TrainingSetDiffers(FeatureError):
    """The folder holds another training set; it is left as it is."""


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """What computed it. `commit` ends with `-dirty` when files were changed since."""

    eventide: str
    commit: str | None
    python: str
    polars: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """All that a training set was made from, and the hashes that it is known by.

    Times are in microseconds since 1970. Decisions lie in `start_us <= time < mature_until_us`: the
    later ones, until `end_us`, were not `max_wait` of the label old at the cut-off
    `known_before_us`. `offsets`: topic-partition -> first and last offset that was read.
    `content_sha256` is of the rows, `file_sha256` of the file that holds them.
    """

    service: str
    label: str
    start_us: int
    end_us: int
    known_before_us: int
    mature_until_us: int
    rows: int
    labelled: int
    content_sha256: str
    file_sha256: str
    delta_versions: Mapping[str, int]
    offsets: Mapping[str, tuple[int, int]]
    schema_ids: Mapping[str, int]  # by view
    code: Code


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
                hint="let the decisions end earlier, or ask as of a later moment",
            )

    @property
    def mature_until_us(self) -> int:
        """Until when decisions are old enough for their label to be known at the cut-off."""
        mature_us = self.known_before_us - span_us(self.label.max_wait)
        return max(self.start_us, min(self.end_us, mature_us))


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How history is read. None of it but the horizon changes the rows."""

    slice_us: int = SLICE_US
    duplicate_horizon_us: int = DUPLICATE_HORIZON_US
    ready_tolerance_us: int = READY_TOLERANCE_US
    on_progress: ProgressCallback | None = None


def write_training_set(
    spec: TrainingSetSpec,
    store: OfflineStore,
    folder: Path,
    *,
    options: ReadOptions | None = None,
) -> tuple[Manifest, bool]:
    """Write `training_set.parquet` and `manifest.json`; the manifest, and whether it is new.

    A folder that holds the same rows already stays as it is. The manifest is written last: a file
    without one was cut off. The versions that it names are pinned, so that no upkeep deletes what
    they need.

    Raises:
        TrainingSetDiffers: the folder holds other rows.
        CheckFailed, DataNotReady, StoreUnavailable: see `training_rows` in `historical`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".draft-") as draft:
        fresh = Path(draft) / FILE
        made = _write(spec, store, fresh, options or ReadOptions())
        before = read_manifest(folder) if (folder / MANIFEST).exists() else None
        if before and before.content_sha256 != made.content_sha256:
            raise TrainingSetDiffers(
                f"{folder} holds another training set, with the content"
                f" {before.content_sha256[:12]}, not {made.content_sha256[:12]}",
                hint="name another folder, or remove this one",
            )
        if before and _is(folder / FILE, before.file_sha256):
            return before, False
        fresh.replace(folder / FILE)
        _pin(spec, store, folder, made)
        noted = Path(draft) / MANIFEST
        noted.write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n")
        noted.replace(folder / MANIFEST)
    return made, True


def repeat_training_set(
    manifest: Manifest,
    domains: Sequence[Domain],
    store: OfflineStore,
    *,
    options: ReadOptions | None = None,
) -> Manifest:
    """Make the rows of a manifest once more, at its versions, and keep nothing but the new one.

    Raises: see `write_training_set`, and `find`.
    """
    spec = spec_from_manifest(manifest, domains)
    with TemporaryDirectory(prefix="eventide-") as draft:
        return _write(spec, store, Path(draft) / FILE, options or ReadOptions())


def spec_from_manifest(manifest: Manifest, domains: Sequence[Domain]) -> TrainingSetSpec:
    """What a manifest was made from, at its versions.

    Raises:
        FeatureError: its service or its label is not declared any more.
    """
    service, label = find(domains, manifest.service, manifest.label)
    return TrainingSetSpec(
        service=service,
        label=label,
        start_us=manifest.start_us,
        end_us=manifest.end_us,
        known_before_us=manifest.known_before_us,
        versions=manifest.delta_versions,
    )


def find(domains: Sequence[Domain], service: str, label: str) -> tuple[FeatureService, Label]:
    """The service and the label of those names, both of one domain.

    Raises:
        FeatureError: there is none.
    """
    services = {s.name: (s, d) for d in domains for s in d.services}
    if service not in services:
        raise FeatureError(f"no service {service!r}", hint=f"declared: {sorted(services)}")
    found, domain = services[service]
    labels = {one.name: one for one in domain.labels}
    if label not in labels:
        raise FeatureError(
            f"no label {label!r} in the domain {domain.name}", hint=f"declared: {sorted(labels)}"
        )
    return found, labels[label]


def read_manifest(place: Path) -> Manifest:
    """The manifest in a folder, or the manifest itself.

    Raises:
        FeatureError: there is none that can be read.
    """
    file = place / MANIFEST if place.is_dir() else place
    try:
        return msgspec.json.decode(file.read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError) as error:
        raise FeatureError(f"{file} is no manifest of a training set: {error}") from error


def _write(
    spec: TrainingSetSpec, store: OfflineStore, file: Path, options: ReadOptions
) -> Manifest:
    past = EventLog(store, versions=spec.versions, horizon_us=options.duplicate_horizon_us)
    past.require(
        sources(spec.service, spec.label),
        until_us=spec.known_before_us - options.ready_tolerance_us,
    )
    with _Rows(file) as rows:
        for piece in training_slices(
            spec.service,
            spec.label,
            past,
            start_us=spec.start_us,
            end_us=spec.mature_until_us,
            known_before_us=spec.known_before_us,
            slice_us=options.slice_us,
            on_progress=options.on_progress,
        ):
            rows.add(piece)
    return Manifest(
        service=spec.service.name,
        label=spec.label.name,
        start_us=spec.start_us,
        end_us=spec.end_us,
        known_before_us=spec.known_before_us,
        mature_until_us=spec.mature_until_us,
        rows=rows.count,
        labelled=rows.labelled,
        content_sha256=rows.digest.hexdigest(),
        file_sha256=_file_sha256(file),
        delta_versions=dict(sorted((past.versions or {}).items())),
        offsets={
            partition: (first, last)
            for _, used in sorted(past.used.items())
            for partition, (first, last) in sorted(used["offsets"].items())
        },
        schema_ids={v.name: state_of(v).schema_id for v in spec.service.views},
        code=_code(),
    )


def _pin(spec: TrainingSetSpec, store: OfflineStore, folder: Path, made: Manifest) -> None:
    events = {e.name: e for e in sources(spec.service, spec.label)}
    for name, version in made.delta_versions.items():
        store.pin(events[name], version, f"training set {folder.resolve()}")


class _Rows:
    """A Parquet file that grows by row groups, and what is to be said of its rows."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._writer: Any = None  # made with the first piece, which says what columns there are
        self.digest, self.count, self.labelled = ContentDigest(), 0, 0

    def __enter__(self) -> _Rows:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def add(self, piece: pl.DataFrame) -> None:
        """One row group."""
        import polars as pl
        from pyarrow.parquet import ParquetWriter

        self.digest.add(piece)
        self.count += piece.height
        self.labelled += piece.height - piece["label"].null_count()
        table = piece.to_arrow(compat_level=pl.CompatLevel.oldest())
        if self._writer is None:
            self._writer = ParquetWriter(self._file, table.schema, compression="zstd")
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))


def _is(file: Path, sha256: str) -> bool:
    return file.is_file() and _file_sha256(file) == sha256


def _file_sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _code() -> Code:
    return Code(
        eventide=importlib.metadata.version("eventide-mlops"),
        commit=_commit(),
        python=platform.python_version(),
        polars=importlib.metadata.version("polars"),
    )


def _commit() -> str | None:
    """Of the working copy that this code lies in; None where there is none, or no git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() or None

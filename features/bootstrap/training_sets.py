"""Puts the export of training sets together."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from features.bootstrap.stores import open_offline
from features.catalog import domains
from features.retrieval.manifest import Manifest
from features.retrieval.training_set import (
    ReadOptions,
    TrainingSetSpec,
    repeat_training_set,
    write_training_set,
)
from infra.kafka.admin import offsets_at
from infra.kafka.errors import NoBroker
from infra.kafka.partitions import Positions
from infra.logging import log
from infra.process.progress import ProgressCallback
from infra.settings import Settings


def export_training_set(
    settings: Settings,
    spec: TrainingSetSpec,
    folder: Path,
    *,
    slice_us: int,
    on_progress: ProgressCallback,
) -> tuple[Manifest, bool]:
    """`write_training_set` with the offline store and the settings of this installation."""
    return write_training_set(
        spec, open_offline(settings), folder, options=_read_options(settings, slice_us, on_progress)
    )


def repeat_export(
    settings: Settings, before: Manifest, *, slice_us: int, on_progress: ProgressCallback
) -> Manifest:
    """`repeat_training_set` with the offline store and the settings of this installation."""
    return repeat_training_set(
        before,
        domains(),
        open_offline(settings),
        options=_read_options(settings, slice_us, on_progress),
    )


def ends_at(settings: Settings, topics: Sequence[str], time_us: int) -> Positions | None:
    """What the brokers say about a time; None, and a warning, if none of them responds.

    An offline store may be read where no broker is.
    """
    try:
        return offsets_at(settings.kafka, topics, time_us)
    except NoBroker as error:
        log.warning("ends_unknown", why=str(error))
        return None


def _read_options(settings: Settings, slice_us: int, on_progress: ProgressCallback) -> ReadOptions:
    return ReadOptions(
        slice_us=slice_us,
        duplicate_horizon_us=settings.ingest.duplicate_horizon_us,
        ends=partial(ends_at, settings),
        on_progress=on_progress,
    )

"""Historical features: the values of a service for past decisions, from the offline store.

They equal the values that `features.retrieval.online` gave, or would have given, at the decision
time `t`: each uses the events with `known_at < t` and `event_time >= t - W`, without duplicates
(`features.engine.deduplication`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from features.definitions import FeatureService, Label
from features.engine.formulas import FAILURES
from features.engine.request_columns import request_values
from features.errors import FeatureError
from features.retrieval.content_hash import ContentDigest
from features.retrieval.decisions import (
    Decisions,
    decisions_of,
    replaced_events,
    time_slices,
)
from features.retrieval.event_arrays import exact_arrays_in, nullified_frame
from features.retrieval.event_log import DUPLICATE_HORIZON_US, EventLog
from features.retrieval.field_sets import column_fields, request_fields
from features.retrieval.field_sets import sources as sources  # noqa: PLC0414  # read from here
from features.retrieval.labels import labels_of
from features.retrieval.manifest import RowsManifest, TableUse
from features.retrieval.readiness import READY_TOLERANCE_US, Ends, require_ready
from features.retrieval.view_values import SliceEvents, view_values
from features.stores.ports import OfflineStore
from infra.clock import DAY, from_us
from infra.logging import log
from infra.process.progress import ProgressCallback

if TYPE_CHECKING:
    import polars as pl

SLICE_US = 30 * DAY  # a third of the memory of a year at once, for a seventh more CPU


@dataclass(frozen=True, kw_only=True)
class TrainingRows:
    """One row for each decision, sorted by decision time and entity id.

    `frame`: entity_id, decision_time_us, each category (str) and number (float64, NaN for a missing
    value) of the service by name, label (Int8: 0, 1 or null), label_known_at_us (null with it).
    """

    frame: pl.DataFrame
    manifest: RowsManifest


def training_rows(
    service: FeatureService,
    label: Label,
    store: OfflineStore,
    *,
    start_us: int,
    end_us: int,
    known_before_us: int,
    versions: Mapping[str, int] | None = None,
    duplicate_horizon_us: int = DUPLICATE_HORIZON_US,
    ready_tolerance_us: int = READY_TOLERANCE_US,
    ends: Ends | None = None,
    slice_us: int = SLICE_US,
) -> TrainingRows:
    """Decisions with `start_us <= decision time < end_us`, known before the cut-off, with features.

    A label that was not known before `known_before_us` is null. The same call gives the same rows
    and the same sha256 although more events have arrived since. `versions` (event name -> version
    of its table) reads pinned versions instead of the newest. `slice_us`: see `training_slices`.

    Raises:
        CheckFailed: an event that would be used violates a check with `on_failure="stop"`.
        DataNotReady: a source is not complete up to the cut-off, see `require_ready`.
        FeatureError: the decisions would end after the cut-off.
        StoreUnavailable: the store does not respond.
    """
    import polars as pl

    event_log = EventLog(store, versions=versions, horizon_us=duplicate_horizon_us)
    require_ready(
        event_log,
        service,
        label,
        cutoff_us=known_before_us,
        tolerance_us=ready_tolerance_us,
        ends=ends,
    )
    slices = training_slices(
        service,
        label,
        event_log,
        start_us=start_us,
        end_us=end_us,
        known_before_us=known_before_us,
        slice_us=slice_us,
    )
    summary, frames = RowsSummary(), []
    for piece in slices:
        summary.add(piece)
        frames.append(piece)
    manifest = summary.manifest(
        service,
        label,
        tables=event_log.used,
        start_us=start_us,
        end_us=end_us,
        known_before_us=known_before_us,
    )
    return TrainingRows(frame=pl.concat(frames), manifest=manifest)


class RowsSummary:
    """Counts and hashes the rows of a training set, slice by slice."""

    def __init__(self) -> None:
        self.digest, self.rows, self.labelled = ContentDigest(), 0, 0

    def add(self, piece: pl.DataFrame) -> None:
        """The next slice."""
        self.digest.add(piece)
        self.rows += piece.height
        self.labelled += piece.height - piece["label"].null_count()

    def manifest(
        self,
        service: FeatureService,
        label: Label,
        *,
        tables: Mapping[str, TableUse],
        start_us: int,
        end_us: int,
        known_before_us: int,
    ) -> RowsManifest:
        """The manifest of all rows so far."""
        return RowsManifest(
            service=service.name,
            label=label.name,
            start_us=start_us,
            end_us=end_us,
            known_before_us=known_before_us,
            rows=self.rows,
            labelled=self.labelled,
            tables=tables,
            sha256=self.digest.hexdigest(),
        )


def training_slices(
    service: FeatureService,
    label: Label,
    event_log: EventLog,
    *,
    start_us: int,
    end_us: int,
    known_before_us: int,
    slice_us: int = SLICE_US,
    on_progress: ProgressCallback | None = None,
) -> Iterator[pl.DataFrame]:
    """The frame of `training_rows` in pieces, by the time of the decisions; one piece at least.

    Each piece holds the decisions of at most `slice_us`. It reads the events that these decisions
    can see, back to `view.lookback_us` before the slice. So memory grows with the slice and not
    with the whole span, and the rows are the same for every `slice_us`. `on_progress` is called
    before each piece.

    Events that were known too late for their decision are logged, once.

    Raises: see `training_rows`.
    """
    if end_us > known_before_us:
        raise FeatureError(
            f"decisions until {from_us(end_us)} cannot be known by {from_us(known_before_us)}"
        )
    event_log = replace(event_log, known_before_us=known_before_us)
    slices = time_slices(service, event_log, (start_us, end_us), known_before_us, slice_us)
    replaced = replaced_events(service.decision, event_log, known_before_us)
    known_late = 0
    for completed, time_slice in enumerate(slices):
        if on_progress:
            on_progress(completed, len(slices))
        decisions = decisions_of(service, event_log, time_slice, replaced)
        known_late += decisions.known_late
        yield _frame(service, event_log, decisions).hstack(
            labels_of(label, event_log, decisions, known_before_us=known_before_us)
        )
    _log_what_was_left_out(service, known_late)


def _log_what_was_left_out(service: FeatureService, known_late: int) -> None:
    for (formula, reason), rows in FAILURES.take().items():
        log.warning("formula_failed", formula=formula, reason=reason, rows=rows)
    if known_late:
        # Whole sources may be late by a moment: then a training set is empty for no visible reason.
        log.warning(
            "decisions_known_late",
            service=service.name,
            events=known_late,
            remedy="Decision(reported_within=...), if they are decided about all the same",
        )


def _frame(service: FeatureService, event_log: EventLog, decisions: Decisions) -> pl.DataFrame:
    import polars as pl

    source, frame = service.decision.source, decisions.frame
    for event in service.decision.checked_as[1:]:  # those of the source were applied by the log
        frame = nullified_frame(event, frame, request_fields(service), of=source)
    columns = exact_arrays_in(source, frame, column_fields(service))
    own = request_values(service, columns, decisions.as_of_us)
    slice_events = SliceEvents(service.views, event_log, decisions.as_of_us)
    columns_of_views: dict[str, pl.Series] = {}
    for view in service.views:
        values = view_values(view, slice_events, frame, decisions.as_of_us, decided_by=source)
        columns_of_views |= {name: pl.Series(values[:, i]) for i, name in enumerate(view.features)}
    return pl.DataFrame(
        {
            "entity_id": decisions.entity_id,
            "decision_time_us": pl.Series(decisions.as_of_us, dtype=pl.Int64),
            **{name: pl.Series(v, dtype=pl.String) for name, v in own.categories.items()},
            **dict(zip(service.numbers, own.numbers.T, strict=False)),  # the first of them
            **columns_of_views,
        }
    )

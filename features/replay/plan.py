"""What a replay sends: a span of a recording, with injected lateness and duplicates on demand."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from features.errors import FeatureError
from infra.clock import MINUTE

if TYPE_CHECKING:
    import polars as pl

_DUPLICATE_AFTER_MINUTES = 10.0  # mean: a source that got no acknowledgement and retries


@dataclass(frozen=True, kw_only=True)
class ReplayPlan:
    """Which events are sent, and how they are changed. The same plan always gives the same rows.

    `late` and `duplicates` are fractions of the events; requests are neither late nor sent twice.
    Late events are emitted later, by `late_mean_minutes` on average (exponential).
    `step_minutes` 0 keeps the order of emission; otherwise the rows come in steps of so many
    minutes, and in each step the requests after the events. No record's time changes.
    """

    recording: str
    from_us: int | None = None
    until_us: int | None = None
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    late: float = 0.0
    late_mean_minutes: float = 60.0
    duplicates: float = 0.0
    seed: int = 0
    step_minutes: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.late <= 1 or not 0 <= self.duplicates <= 1:
            raise FeatureError("late and duplicates are fractions from 0 to 1")
        if self.from_us is not None and self.until_us is not None and self.from_us >= self.until_us:
            raise FeatureError("the span is empty: --from lies at or after --until")

    @property
    def key(self) -> str:
        """Names the position of this plan: another plan starts at its own beginning.

        Only what is not the default counts, so that a new option moves no position.
        """
        chosen = {f.name: getattr(self, f.name) for f in fields(self)}
        content = json.dumps(
            {n: v for n, v in chosen.items() if v != _DEFAULTS.get(n)}, sort_keys=True
        )
        return f"{self.recording}/{hashlib.sha256(content.encode()).hexdigest()[:16]}"


_DEFAULTS = {f.name: f.default for f in fields(ReplayPlan)}


def rows(plan: ReplayPlan, file: Path, *, requests: frozenset[str]) -> pl.DataFrame:
    """The rows to send, in the order of sending, with the columns of a recording.

    Raises:
        FeatureError: `only` or `without` names an event that the recording does not have.
    """
    import polars as pl

    # Lazily: of a recording that is sorted by time a short span reads a few row groups.
    recorded = pl.scan_parquet(file)
    if plan.only or plan.without:
        _check_names(plan, set(recorded.select(pl.col("event").unique()).collect()["event"]))
    if plan.only:
        recorded = recorded.filter(pl.col("event").is_in(plan.only))
    if plan.without:
        recorded = recorded.filter(~pl.col("event").is_in(plan.without))
    if plan.from_us is not None:
        recorded = recorded.filter(pl.col("known_at_us") >= plan.from_us)
    if plan.until_us is not None:
        recorded = recorded.filter(pl.col("known_at_us") < plan.until_us)
    return _in_steps(plan, _disturbed(plan, recorded.collect(), requests), requests)


def _in_steps(plan: ReplayPlan, frame: pl.DataFrame, requests: frozenset[str]) -> pl.DataFrame:
    import polars as pl

    if not plan.step_minutes:
        return frame
    step = pl.col("known_at_us") // (plan.step_minutes * MINUTE)
    is_request = pl.col("event").is_in(list(requests))
    return frame.sort(step, is_request, maintain_order=True)


def _disturbed(plan: ReplayPlan, frame: pl.DataFrame, requests: frozenset[str]) -> pl.DataFrame:
    import polars as pl

    if not plan.late and not plan.duplicates:
        return frame
    draw = np.random.default_rng(plan.seed)
    may = ~frame["event"].is_in(list(requests)).to_numpy()
    late = may & (draw.random(len(frame)) < plan.late)
    again = may & (draw.random(len(frame)) < plan.duplicates)
    delay = draw.exponential(plan.late_mean_minutes * MINUTE, len(frame)).astype(np.int64)
    retry = draw.exponential(_DUPLICATE_AFTER_MINUTES * MINUTE, len(frame)).astype(np.int64)
    frame = frame.with_columns(known_at_us=pl.col("known_at_us") + np.where(late, delay, 0))
    copies = frame.with_columns(known_at_us=pl.col("known_at_us") + retry).filter(pl.Series(again))
    return pl.concat([frame, copies]).sort("known_at_us", maintain_order=True)


def _check_names(plan: ReplayPlan, known: set[str]) -> None:
    if unknown := sorted({*plan.only, *plan.without} - known):
        raise FeatureError(
            f"the recording {plan.recording!r} has no events {unknown}",
            hint=f"it has {sorted(known)}",
        )

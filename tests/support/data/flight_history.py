"""A synthetic history of flights, with known causes of delay. Same arguments, same rows."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any

import numpy as np
import polars as pl

from features.definitions import FeatureService, Label
from features.retrieval.content_hash import content_sha256
from features.retrieval.historical import TrainingRows
from features.retrieval.manifest import RowsManifest
from infra.clock import DAY, HOUR, MINUTE, to_us

Change = Callable[[pl.DataFrame], pl.DataFrame]
CARRIERS, ORIGINS = ("AA", "B6", "DL", "UA"), ("EWR", "JFK", "LGA")
DESTINATIONS = tuple(f"D{i:02d}" for i in range(12))


@dataclass(frozen=True, kw_only=True)
class SyntheticHistory:
    """Stands in for `training_rows` of `historical`. `change` spoils the finished frame."""

    first_day: str = "2013-01-01"
    rows_a_day: int = 300
    seed: int = 0
    change: Change = lambda frame: frame

    def __call__(
        self,
        service: FeatureService,
        label: Label,
        *,
        start_us: int,
        end_us: int,
        known_before_us: int,
    ) -> TrainingRows:
        start = to_us(date.fromisoformat(self.first_day))
        days = range(max(0, (end_us - start) // DAY + 1))
        made = {"first_us": start, "seed": self.seed, "n": self.rows_a_day}
        columns = (tuple(service.categories), tuple(service.numbers))
        frame = pl.concat(
            [
                _empty(*columns),
                *(_day(*columns, day, **made) for day in days),
            ]
        )
        decision_time = pl.col("decision_time_us")
        unknown = pl.col("label_known_at_us") >= known_before_us
        frame = frame.filter(decision_time >= start_us, decision_time < end_us).with_columns(
            label=pl.when(unknown).then(None).otherwise(pl.col("label")),
            label_known_at_us=pl.when(unknown).then(None).otherwise(pl.col("label_known_at_us")),
        )
        frame = self.change(frame)
        manifest = RowsManifest(
            service=service.name,
            label=label.name,
            start_us=start_us,
            end_us=end_us,
            known_before_us=known_before_us,
            rows=frame.height,
            labelled=frame.height - frame["label"].null_count(),
            tables={},
            sha256=content_sha256(frame),
        )
        return TrainingRows(frame=frame, manifest=manifest)


@cache  # many tests read the same days
def _day(
    categories: tuple[str, ...],
    numbers: tuple[str, ...],
    day: int,
    *,
    first_us: int,
    seed: int,
    n: int,
) -> pl.DataFrame:
    rng = np.random.default_rng([seed, day])
    decided = first_us + day * DAY + np.sort(rng.integers(0, DAY // MINUTE, n)) * MINUTE
    columns: dict[str, Any] = {
        "entity_id": [f"F{day}-{i}" for i in range(n)],
        "decision_time_us": decided,
        "carrier": rng.choice(CARRIERS, n),
        "origin": rng.choice(ORIGINS, n),
        "dest": rng.choice(DESTINATIONS, n),
    }
    weather = rng.normal(0.0, 1.0)  # all flights of a day share it
    for name in numbers:
        columns[name] = _plausible(name, rng, n, weather)
    lateness = columns["origin_departures_mean_delay_3h"] / 10.0
    chance = 1 / (1 + np.exp(1.6 - 0.8 * weather - lateness + 1.2 * (columns["carrier"] == "AA")))
    columns["label"] = (rng.random(n) < chance).astype(np.int8)
    columns["label_known_at_us"] = decided + rng.integers(2 * HOUR, 8 * HOUR, n)
    return pl.DataFrame(columns).cast(_schema(categories, numbers))


def _plausible(name: str, rng: np.random.Generator, n: int, weather: float) -> Any:
    fixed = {
        "distance_miles": (100, 2_500),
        "local_minute": (300, 1_400),
        "weekday": (1, 8),
        "block_minutes": (45, 400),
    }
    if name in fixed:
        return rng.integers(*fixed[name], n).astype(float)
    values = {"mean_delay": 8 + 5 * weather + rng.normal(0, 6, n), "count": rng.integers(0, 60, n)}
    for part, value in values.items():
        if part in name:
            return np.where(rng.random(n) < 0.03, np.nan, value)
    return np.where(rng.random(n) < 0.03, np.nan, rng.uniform(0, 1, n))


def _schema(categories: tuple[str, ...], numbers: tuple[str, ...]) -> Any:
    return {
        "entity_id": pl.String,
        "decision_time_us": pl.Int64,
        **dict.fromkeys(categories, pl.String),
        **dict.fromkeys(numbers, pl.Float64),
        "label": pl.Int8,
        "label_known_at_us": pl.Int64,
    }


def _empty(categories: tuple[str, ...], numbers: tuple[str, ...]) -> pl.DataFrame:
    return pl.DataFrame(schema=_schema(categories, numbers))

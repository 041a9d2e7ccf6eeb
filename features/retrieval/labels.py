"""The labels of a training set: what happened after each decision."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from features.definitions import Entity, Int64Array, Label
from features.engine.deduplication import EARLY_US
from features.engine.label_windows import happened_within
from features.retrieval.decisions import Decisions
from features.retrieval.event_log import EventLog, arrays_in, entity_codes
from features.retrieval.field_sets import distinct
from infra.clock import DAY, span_us

if TYPE_CHECKING:
    import polars as pl


def labels_of(
    label: Label, event_log: EventLog, decisions: Decisions, *, known_before_us: int
) -> pl.DataFrame:
    """The columns label and label_known_at_us for the decisions.

    Of several labels of a decision the one that was known first counts.
    """
    import polars as pl

    if label.within is not None:
        return _within(label, label.within, event_log, decisions, known_before_us=known_before_us)
    fields = distinct((label.entity_id,), label.reads)
    decided = pl.DataFrame(
        {"entity_id": decisions.entity_id, "at": pl.Series(decisions.as_of_us, dtype=pl.Int64)}
    ).with_row_index()
    # A label may come at any time before the cut-off, so every slice reads the table to its end.
    earliest = int(decisions.as_of_us.min(initial=known_before_us)) - DAY
    blocks = event_log.blocks(label.source, from_us=earliest, until_us=known_before_us + EARLY_US)
    known = pl.concat(
        [
            _labels_in(
                label, event_log.events(label.source, fields, from_us=first, until_us=last), decided
            )
            for first, last in blocks or [(earliest, earliest)]
        ]
    )
    known = (
        known.filter(pl.col("label_known_at_us") < known_before_us)
        .sort("label_known_at_us", "offset")
        .unique("index", keep="first", maintain_order=True)
    )
    joined = decided.join(known, on="index", how="left", maintain_order="left")
    return joined.select("label", "label_known_at_us")


def _within(
    label: Label,
    within: timedelta,
    event_log: EventLog,
    decisions: Decisions,
    *,
    known_before_us: int,
) -> pl.DataFrame:
    """`labels_of` for a label with `within`: null until the decision is `max_wait` old."""
    import polars as pl

    within_us, wait_us = span_us(within), span_us(label.max_wait)
    decided_us = decisions.as_of_us
    events = _positive_events(
        label,
        event_log,
        from_us=int(decided_us.min(initial=known_before_us)),
        until_us=int(decided_us.max(initial=0)) + within_us + 1,
    )
    decision_group, event_group = _groups(decisions.entity_id, events[label.entity_id])
    happened = happened_within(
        group=event_group,
        happened_us=events["event_time_us"].to_numpy(),
        known_us=events["known_at_us"].to_numpy(),
        query_group=decision_group,
        query_us=decided_us,
        within_us=within_us,
        wait_us=wait_us,
    )
    mature = pl.Series(decided_us + wait_us <= known_before_us, dtype=pl.Boolean)
    return pl.DataFrame(
        {
            "label": pl.Series(happened.astype(np.int8), dtype=pl.Int8),
            "label_known_at_us": pl.Series(decided_us + wait_us, dtype=pl.Int64),
        }
    ).select(pl.when(mature).then(pl.all()))


def _groups(decided: pl.Series, happened: pl.Series) -> list[Int64Array]:
    """The entities of decisions and of events as codes, which are equal for the same entity."""
    import polars as pl

    frames = [pl.DataFrame({"entity_id": ids}) for ids in (decided, happened)]
    return entity_codes(Entity(name="entity", keys=("entity_id",)), frames)


def _positive_events(
    label: Label, event_log: EventLog, *, from_us: int, until_us: int
) -> pl.DataFrame:
    """The events of a span for which the label's `value` holds."""
    import polars as pl

    fields = distinct((label.entity_id,), label.reads)
    frame = event_log.events(label.source, fields, from_us=from_us, until_us=until_us)
    return frame.filter(pl.Series(label.value(arrays_in(label.source, frame, label.reads))))


def _labels_in(label: Label, frame: pl.DataFrame, decided: pl.DataFrame) -> pl.DataFrame:
    """The labels that these events give, each with the decision (`index`) that it is about."""
    import polars as pl

    frame = frame.join(decided, left_on=label.entity_id, right_on="entity_id", how="semi")
    happened = label.value(arrays_in(label.source, frame, label.reads))
    labels = pl.DataFrame(
        {
            "entity_id": frame[label.entity_id],
            "label": pl.Series(np.asarray(happened).astype(np.int8), dtype=pl.Int8),
            "label_known_at_us": frame["known_at_us"],
            "offset": frame["offset"],
            "happened_us": frame["event_time_us"],
        }
    )
    joined = labels.join(decided, on="entity_id")
    # An event more than a day before the decision is about an earlier one of the same entity.
    joined = joined.filter(pl.col("happened_us") >= pl.col("at") - DAY)
    return joined.select("index", "label", "label_known_at_us", "offset")

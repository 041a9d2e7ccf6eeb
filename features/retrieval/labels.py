"""What became of decisions: the labels of a training set."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from features.definitions import Entity, Int64Array, Label
from features.engine.label_windows import happened_within
from features.retrieval.event_log import EARLY_US, EventLog, arrays_in, entity_codes
from infra.clock import DAY, span_us

if TYPE_CHECKING:
    import polars as pl


@dataclass(kw_only=True)
class Decisions:
    """What is decided when: one row each, sorted by time and entity id."""

    frame: pl.DataFrame  # fields of the decision's source that the service reads
    entity_id: pl.Series
    as_of_us: Int64Array


def labels_of(
    label: Label, event_log: EventLog, decisions: Decisions, *, known_before_us: int
) -> pl.DataFrame:
    """Columns label and label_known_at_us for the decisions; of several the first known counts."""
    import polars as pl

    if label.within is not None:
        return _within(label, label.within, event_log, decisions, known_before_us=known_before_us)
    fields = tuple(dict.fromkeys((label.entity_id, *label.reads)))
    asked = pl.DataFrame(
        {"entity_id": decisions.entity_id, "at": pl.Series(decisions.as_of_us, dtype=pl.Int64)}
    ).with_row_index()
    # A label has all the time until the cut-off: the table is gone through for every slice.
    earliest = int(decisions.as_of_us.min(initial=known_before_us)) - DAY
    blocks = event_log.blocks(label.source, from_us=earliest, until_us=known_before_us + EARLY_US)
    known = pl.concat(
        [
            _told(
                label, event_log.events(label.source, fields, from_us=first, until_us=last), asked
            )
            for first, last in blocks or [(earliest, earliest)]
        ]
    )
    known = (
        known.filter(pl.col("label_known_at_us") < known_before_us)
        .sort("label_known_at_us", "offset")
        .unique("index", keep="first", maintain_order=True)
    )
    joined = asked.join(known, on="index", how="left", maintain_order="left")
    return joined.select("label", "label_known_at_us")


def _within(
    label: Label,
    within: timedelta,
    event_log: EventLog,
    decisions: Decisions,
    *,
    known_before_us: int,
) -> pl.DataFrame:
    """The same for a label that says whether anything happens within a span."""
    import polars as pl

    within_us, wait_us = span_us(within), span_us(label.max_wait)
    fields = tuple(dict.fromkeys((label.entity_id, *label.reads)))
    asked_us = decisions.as_of_us
    frame = event_log.events(
        label.source,
        fields,
        from_us=int(asked_us.min(initial=known_before_us)),
        until_us=int(asked_us.max(initial=0)) + within_us + 1,
    )
    frame = frame.filter(pl.Series(label.value(arrays_in(label.source, frame, label.reads))))
    asked, told = entity_codes(
        Entity(name="entity", keys=("entity_id",)),
        [
            pl.DataFrame({"entity_id": decisions.entity_id}),
            pl.DataFrame({"entity_id": frame[label.entity_id]}),
        ],
    )
    happened = happened_within(
        group=told,
        happened_us=frame["event_time_us"].to_numpy(),
        known_us=frame["known_at_us"].to_numpy(),
        query_group=asked,
        query_us=asked_us,
        within_us=within_us,
        wait_us=wait_us,
    )
    ripe = pl.Series(asked_us + wait_us <= known_before_us, dtype=pl.Boolean)
    return pl.DataFrame(
        {
            "label": pl.Series(happened.astype(np.int8), dtype=pl.Int8),
            "label_known_at_us": pl.Series(asked_us + wait_us, dtype=pl.Int64),
        }
    ).select(pl.when(ripe).then(pl.all()))


def _told(label: Label, frame: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """What these events say about which decision (`index`)."""
    import polars as pl

    frame = frame.join(asked, left_on=label.entity_id, right_on="entity_id", how="semi")
    happened = label.value(arrays_in(label.source, frame, label.reads))
    told = pl.DataFrame(
        {
            "entity_id": frame[label.entity_id],
            "label": pl.Series(np.asarray(happened).astype(np.int8), dtype=pl.Int8),
            "label_known_at_us": frame["known_at_us"],
            "offset": frame["offset"],
            "happened_us": frame["event_time_us"],
        }
    )
    joined = told.join(asked, on="entity_id")
    # More than a day earlier: it was about something else.
    joined = joined.filter(pl.col("happened_us") >= pl.col("at") - DAY)
    return joined.select("index", "label", "label_known_at_us", "offset")

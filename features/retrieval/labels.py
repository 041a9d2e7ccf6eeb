"""The labels of a training set: what happened after each decision."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from features.definitions import Int64Array, Label
from features.engine.deduplication import EARLY_US
from features.engine.label_values import label_values
from features.engine.label_windows import first_known_after, happened_within
from features.errors import DeclarationError
from features.retrieval.decisions import Decisions
from features.retrieval.event_arrays import arrays_in
from features.retrieval.event_log import EventLog
from features.retrieval.field_sets import distinct
from infra.clock import span_us

if TYPE_CHECKING:
    import polars as pl

ENTITY = "_entity"  # the code of an event's entity among those that are decided about


def labels_of(
    label: Label, event_log: EventLog, decisions: Decisions, *, known_before_us: int
) -> pl.DataFrame:
    """The columns label and label_known_at_us for the decisions.

    Only events that come after a decision (`features.engine.label_windows`) can be its label. Of
    several the one that was known first counts, and of those known at one moment the one with the
    lowest partition and offset.

    Raises:
        DeclarationError: the label's value is no truth value, or its `entity_id` has another type
            than that of the decisions.
    """
    if label.within is not None:
        return _within(label, label.within, event_log, decisions, known_before_us=known_before_us)
    entities = _entities(decisions)
    decided_us = decisions.as_of_us
    first = FirstLabels(entities["_code"].to_numpy(), decided_us)
    # A label may come at any time before the cut-off, so every slice reads the table to its end.
    earliest = int(decided_us.min(initial=known_before_us))
    for start, end in event_log.blocks(
        label.source, from_us=earliest, until_us=known_before_us + EARLY_US
    ):
        frame = _reported_events(label, event_log, entities, from_us=start, until_us=end)
        first.add(label, frame)
    return first.frame()


class FirstLabels:
    """The label of each decision that was known first, from events that come in blocks."""

    def __init__(self, entity: Int64Array, decided_us: Int64Array) -> None:
        import polars as pl

        self._entity, self._decided_us = entity, decided_us
        self._known = pl.DataFrame(
            schema={
                "index": pl.Int64,
                "label": pl.Int8,
                "label_known_at_us": pl.Int64,
                "partition": pl.Int64,
                "offset": pl.Int64,
            }
        )

    def add(self, label: Label, frame: pl.DataFrame) -> None:
        """The next events of the label's source; `frame` has the code of their entity."""
        import polars as pl

        frame = frame.sort("known_at_us", "partition", "offset")
        values, known = label_values(label, arrays_in(label.source, frame, label.reads))
        frame, values = frame.filter(pl.Series(known, dtype=pl.Boolean)), values[known]
        event = first_known_after(
            group=frame[ENTITY].to_numpy(),
            happened_us=frame["event_time_us"].to_numpy(),
            known_us=frame["known_at_us"].to_numpy(),
            rank=np.arange(frame.height),
            query_group=self._entity,
            query_us=self._decided_us,
        )
        index = np.flatnonzero(event >= 0)
        newly_known = frame[event[index]].select(
            pl.Series("index", index, dtype=pl.Int64),
            pl.Series("label", values[event[index]].astype(np.int8), dtype=pl.Int8),
            pl.col("known_at_us").alias("label_known_at_us"),
            pl.col("partition").cast(pl.Int64),
            pl.col("offset").cast(pl.Int64),
        )
        self._known = (
            pl.concat([self._known, newly_known])
            .sort("label_known_at_us", "partition", "offset")
            .unique("index", keep="first", maintain_order=True)
        )

    def frame(self) -> pl.DataFrame:
        """label and label_known_at_us of each decision, null where no event was a label."""
        import polars as pl

        all_rows = pl.DataFrame({"index": np.arange(len(self._decided_us))})
        joined = all_rows.join(self._known, on="index", how="left", maintain_order="left")
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
    entities, decided_us = _entities(decisions), decisions.as_of_us
    events = _reported_events(
        label,
        event_log,
        entities,
        from_us=int(decided_us.min(initial=known_before_us)),
        until_us=int(decided_us.max(initial=0)) + within_us + 1,
    )
    holds, _ = label_values(label, arrays_in(label.source, events, label.reads))
    events = events.filter(pl.Series(holds, dtype=pl.Boolean))
    happened = happened_within(
        group=events[ENTITY].to_numpy(),
        happened_us=events["event_time_us"].to_numpy(),
        known_us=events["known_at_us"].to_numpy(),
        query_group=entities["_code"].to_numpy(),
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


def _entities(decisions: Decisions) -> pl.DataFrame:
    """The entity of each decision (`id`) and a code for it (`_code`)."""
    import polars as pl

    ids = decisions.entity_id.alias("id")
    return pl.DataFrame({"id": ids, "_code": ids.rank("dense").cast(pl.Int64).fill_null(0)})


def _reported_events(
    label: Label, event_log: EventLog, entities: pl.DataFrame, *, from_us: int, until_us: int
) -> pl.DataFrame:
    """The events that bring a value about one of the entities, with its code in `ENTITY`.

    A first sighting may have a later event time than its duplicate, by at most one horizon, so that
    much more is read.
    """
    import polars as pl

    fields = distinct((label.entity_id,), label.reads)
    frame = event_log.events(
        label.source, fields, event_from_us=from_us, event_until_us=until_us + event_log.horizon_us
    )
    frame = frame.filter(pl.col("event_time_us") < until_us)
    _check_same_type(label, frame[label.entity_id].dtype, entities["id"].dtype)
    codes = entities.unique("id").select(
        pl.col("id").alias(label.entity_id), pl.col("_code").alias(ENTITY)
    )
    frame = frame.join(codes, on=label.entity_id, how="inner")
    # Null is "not known yet", and so is a value that a check nullifies.
    unknown = (
        frame.select(fields)
        .fill_nan(None)
        .select(pl.any_horizontal(pl.all().is_null()).alias("unknown"))
    )
    return frame.filter(~unknown["unknown"])


def _check_same_type(label: Label, of_label: pl.DataType, of_decision: pl.DataType) -> None:
    if of_label != of_decision:
        raise DeclarationError(
            f"label {label.name}: {label.source.name}.{label.entity_id} is {of_label}, and the"
            f" decisions are about entities that are {of_decision}",
            hint="name a field of the same type as the decision's `entity_id`",
        )

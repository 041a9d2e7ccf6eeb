"""Decoded events of one type as columns, and the rows that they add to a view."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from features.definitions import BoolArray, EventType, Int64Array, View
from features.engine.checks import nullified
from features.engine.columns import arrays_of, encode_keys, entity_keys
from features.engine.sorting import UNSET
from features.engine.value_format import entity_tags
from features.engine.value_limits import DEFAULT_LIMITS, ValueLimits
from features.engine.view_rows import ViewRows
from features.engine.view_states import state_of
from infra.kafka.partitions import Partition, Positions


@dataclass(frozen=True, kw_only=True)
class EventRows:
    """Decoded events of one type as columns of one length, in the order of the poll.

    `fields`: the record's fields, as tuples of plain values. `partition`, `offset`: where each
    event is in its topic. `known_at_us`: when it became known, microseconds since 1970, UTC.
    `emitted_at_us`: when it was emitted, if that may be earlier: where `known_after` delays it.
    """

    event: EventType
    fields: Mapping[str, Sequence[Any]]
    partition: Int64Array
    offset: Int64Array
    known_at_us: Int64Array
    emitted_at_us: Int64Array | None = None

    def __len__(self) -> int:
        return len(self.offset)

    @cached_property
    def believed(self) -> Mapping[str, Sequence[Any]]:
        """The fields, with None where a check nullifies them: what every feature is made of."""
        return nullified(self.event, self.fields)

    def where(self, keep: BoolArray) -> "EventRows":
        """The rows that `keep` marks."""
        if keep.all():
            return self
        at = np.flatnonzero(keep).tolist()
        return EventRows(
            event=self.event,
            fields={name: [values[i] for i in at] for name, values in self.fields.items()},
            partition=self.partition[at],
            offset=self.offset[at],
            known_at_us=self.known_at_us[at],
            emitted_at_us=None if self.emitted_at_us is None else self.emitted_at_us[at],
        )

    @property
    def emissions_us(self) -> Int64Array:
        """When each event was emitted."""
        return self.known_at_us if self.emitted_at_us is None else self.emitted_at_us


def view_rows(
    view: View,
    rows: EventRows,
    *,
    may_repeat: BoolArray | None = None,
    limits: ValueLimits = DEFAULT_LIMITS,
) -> ViewRows | None:
    """The delta rows that events add to a view; None if they are about no entity.

    An event with a null in a key of the entity adds none. `may_repeat`: which events may be
    duplicates; their entities are not exact for as long as they can count. `limits`: see
    `state_of`.
    """
    fields = rows.believed
    entities, entity_of = encode_keys(entity_keys(view.entity, fields))
    if not entities:
        return None
    state = state_of(view, limits=limits)
    arrays = arrays_of(fields, rows.event.record, state.fields(rows.event))
    state_rows = state.rows_of(rows.event, arrays, rows.known_at_us)
    left_out = len(rows) - len(state_rows)
    codes, tags = entity_of[state_rows.group], entity_tags(entities)
    has_entity = np.flatnonzero(codes >= 0)
    if len(has_entity) < len(codes):
        codes, state_rows = codes[has_entity], state_rows.select(has_entity, has_entity)
    deltas = state.pack_rows(state_rows, tags[codes])
    if may_repeat is not None and may_repeat.any():
        doubted, exact_from = _exact_from(view, rows.where(may_repeat), entity_of[may_repeat])
        marks = state.pack_marks(exact_from, tags[doubted])
        codes, deltas = np.concatenate([codes, doubted]), np.concatenate([deltas, marks])
    return ViewRows(state=state, entities=entities, codes=codes, rows=deltas, left_out=left_out)


def _exact_from(view: View, rows: EventRows, codes: Int64Array) -> tuple[Int64Array, Int64Array]:
    """The entities of the events, and for each of them from when on none of these can count."""
    happened = np.array(rows.fields["event_time_us"], np.int64)
    counts_until = np.maximum(happened, rows.known_at_us) + view.lookback_us
    named = codes >= 0
    entities, own = np.unique(codes[named], return_inverse=True)
    exact_from = np.full(len(entities), UNSET)
    np.maximum.at(exact_from, own, counts_until[named] + 1)
    return entities, exact_from


def not_yet_applied(rows: EventRows, positions: Positions) -> EventRows:
    """The rows at or above the positions of a sink, which are 0 where it has none."""
    numbers = range(int(rows.partition.max()) + 1)
    offsets = [positions.get(Partition(rows.event.name, n), 0) for n in numbers]
    return rows.where(rows.offset >= np.array(offsets, np.int64)[rows.partition])

"""Decoded events of one type as columns, and the rows that they add to a view."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from features.definitions import BoolArray, EventType, Int64Array, View
from features.engine.checks import nullified
from features.engine.columns import arrays_of, encode_keys, entity_keys
from features.engine.state import COMPACTION_SLACK
from features.engine.value_format import entity_tags
from features.engine.view_rows import ViewRows
from features.engine.view_states import state_of
from infra.kafka.partitions import Partition, Positions


@dataclass(frozen=True, kw_only=True)
class EventRows:
    """Decoded events of one type as columns of one length, in the order of the poll.

    `fields`: the record's fields, as tuples of plain values. `partition`, `offset`: where each
    event is in its topic. `known_at_us`: when it became known, microseconds since 1970, UTC.
    """

    event: EventType
    fields: Mapping[str, Sequence[Any]]
    partition: Int64Array
    offset: Int64Array
    known_at_us: Int64Array

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
        )


def view_rows(
    view: View, rows: EventRows, *, compaction_slack: int = COMPACTION_SLACK
) -> ViewRows | None:
    """The delta rows that events add to a view; None if they add none.

    An event with a null in a key of the entity adds none. `compaction_slack`: see `state_of`.
    """
    fields = rows.believed
    entities, codes = encode_keys(entity_keys(view.entity, fields))
    if not entities:
        return None
    state = state_of(view, compaction_slack=compaction_slack)
    arrays = arrays_of(fields, rows.event.record, state.fields(rows.event))
    state_rows = state.rows_of(rows.event, arrays, rows.known_at_us)
    codes = codes[state_rows.group]
    has_entity = np.flatnonzero(codes >= 0)
    if len(has_entity) < len(codes):
        codes, state_rows = codes[has_entity], state_rows.select(has_entity, has_entity)
    if not len(codes):
        return None
    deltas = state.pack_rows(state_rows, entity_tags(entities)[codes])
    return ViewRows(state=state, entities=entities, codes=codes, rows=deltas)


def not_yet_applied(rows: EventRows, positions: Positions) -> EventRows:
    """The rows at or above the positions of a sink, which are 0 where it has none."""
    numbers = range(int(rows.partition.max()) + 1)
    offsets = [positions.get(Partition(rows.event.name, n), 0) for n in numbers]
    return rows.where(rows.offset >= np.array(offsets, np.int64)[rows.partition])

"""Good events of one type as columns, and the rows that they bring to a view."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from features.definitions import BoolArray, EventType, Int64Array, View
from features.engine.columns import arrays_of, encode_keys, entity_keys
from features.engine.state import ViewRows
from features.engine.view_states import state_of
from infra.kafka.partitions import Partition, Positions


@dataclass(frozen=True, kw_only=True)
class EventRows:
    """Good events of one type as columns of one length, in the order of the poll.

    `fields`: the record's fields, as tuples of plain values.
    """

    event: EventType
    fields: Mapping[str, Sequence[Any]]
    partition: Int64Array
    offset: Int64Array
    known_at_us: Int64Array

    def __len__(self) -> int:
        return len(self.offset)

    def where(self, keep: BoolArray) -> "EventRows":
        """Some of the rows."""
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


def view_rows(view: View, rows: EventRows) -> ViewRows | None:
    """The head rows that events bring to a view; None when they bring none.

    An event whose entity has a null key is about no entity of this view.
    """
    entities, codes = encode_keys(entity_keys(view.entity, rows.fields))
    if not entities:
        return None
    state = state_of(view)
    arrays = arrays_of(rows.fields, rows.event.record, state.fields(rows.event))
    kept = state.kept(rows.event, arrays, rows.known_at_us)
    codes = codes[kept.group]
    head = state.packed(kept)
    named = codes >= 0
    if not named.all():
        codes, head = codes[named], head[named]
    return ViewRows(state=state, entities=entities, codes=codes, rows=head) if len(head) else None


def not_yet_applied(rows: EventRows, positions: Positions) -> EventRows:
    """The rows that a sink which stands at `positions` (0 where it has none) does not have yet."""
    numbers = range(int(rows.partition.max()) + 1)
    found = [positions.get(Partition(rows.event.name, n), 0) for n in numbers]
    return rows.where(rows.offset >= np.array(found, np.int64)[rows.partition])

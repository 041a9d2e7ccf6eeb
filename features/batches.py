"""From a poll to columns: good events by topic, bad records apart, nothing lost between."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from features.codec import decode_message
from features.columns import arrays_of, encode_keys, entity_keys, field_tuples
from features.errors import MalformedEvent
from features.plan import plan_of
from features.ports import ViewRows
from features.vocabulary import BoolArray, EventType, FeatureView, Int64Array
from features.windows import state_of
from infra.kafka.message import Message
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


@dataclass(frozen=True, kw_only=True)
class BadRecord:
    """A record that cannot be read, and why."""

    message: Message
    code: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A poll, decoded."""

    good: Sequence[EventRows]
    bad: Sequence[BadRecord]


def decode_poll(
    messages: Sequence[Message],
    events: Mapping[str, EventType],
    *,
    max_future_us: int,
    clock_us: int,
) -> Decoded:
    """Decode record by record: a bad one does not spoil its neighbours.

    `events` by topic; every message's topic is in it.
    """
    records: dict[str, list[Any]] = {}
    places: dict[str, list[tuple[int, int, int]]] = {}
    bad = []
    for message in messages:
        topic = message.topic()
        try:
            record = decode_message(
                events[topic], message, max_future_us=max_future_us, clock_us=clock_us
            )
        except MalformedEvent as error:
            bad.append(BadRecord(message=message, code=error.code, reason=error.reason))
            continue
        records.setdefault(topic, []).append(record)
        places.setdefault(topic, []).append(
            (message.partition(), message.offset(), message.timestamp()[1] * 1_000)
        )
    good = [_rows(events[topic], found, places[topic]) for topic, found in records.items()]
    return Decoded(good=good, bad=bad)


def view_rows(view: FeatureView, rows: EventRows) -> ViewRows | None:
    """The head rows that events bring to a view; None when they bring none.

    An event whose entity has a null key is about no entity of this view.
    """
    entities, codes = encode_keys(entity_keys(view.entity, rows.fields))
    if not entities:
        return None
    plan, state = plan_of(view), state_of(view)
    arrays = arrays_of(rows.fields, view.source.record, ("event_time_us", *plan.reads))
    head = state.rows(arrays["event_time_us"], rows.known_at_us, plan.integers(arrays))
    named = codes >= 0
    if not named.all():
        codes, head = codes[named], head[named]
    return ViewRows(state=state, entities=entities, codes=codes, rows=head)


def at_or_above(rows: EventRows, positions: Positions) -> EventRows:
    """The rows that a sink which stands at `positions` (0 where it has none) does not have yet."""
    numbers = range(int(rows.partition.max()) + 1)
    found = [positions.get(Partition(rows.event.name, n), 0) for n in numbers]
    return rows.where(rows.offset >= np.array(found, np.int64)[rows.partition])


def _rows(
    event: EventType, records: Sequence[Any], places: Sequence[tuple[int, int, int]]
) -> EventRows:
    place = np.array(places, np.int64)
    return EventRows(
        event=event,
        fields=field_tuples(records, event.fields),
        partition=place[:, 0],
        offset=place[:, 1],
        known_at_us=place[:, 2],
    )

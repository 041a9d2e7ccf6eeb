"""From a poll to columns: good events by topic, bad records apart, nothing lost between."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from features.checks import broken
from features.codec import decode_message
from features.columns import arrays_of, encode_keys, entity_keys, field_tuples
from features.errors import MalformedEvent
from features.shapes import state_of
from features.state import ViewRows
from features.vocabulary import BoolArray, EventType, Int64Array, View
from infra.clock import MILLISECOND
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
    origins: dict[str, list[Message]] = {}
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
        origins.setdefault(topic, []).append(message)
    good = [_rows(events[topic], found, origins[topic]) for topic, found in records.items()]
    refused = [_refuse(rows, origins[rows.event.name]) for rows in good]
    bad += [record for _, found in refused for record in found]
    return Decoded(good=[rows for rows, _ in refused if len(rows)], bad=bad)


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


def at_or_above(rows: EventRows, positions: Positions) -> EventRows:
    """The rows that a sink which stands at `positions` (0 where it has none) does not have yet."""
    numbers = range(int(rows.partition.max()) + 1)
    found = [positions.get(Partition(rows.event.name, n), 0) for n in numbers]
    return rows.where(rows.offset >= np.array(found, np.int64)[rows.partition])


def _rows(event: EventType, records: Sequence[Any], messages: Sequence[Message]) -> EventRows:
    places = [(m.partition(), m.offset(), m.timestamp()[1] * MILLISECOND) for m in messages]
    place = np.array(places, np.int64)
    fields = field_tuples(records, event.fields)
    known = place[:, 2]
    if event.known_after_us:
        happened = np.array(fields["event_time_us"], np.int64)
        known = np.maximum(known, happened + event.known_after_us)
    return EventRows(
        event=event,
        fields=fields,
        partition=place[:, 0],
        offset=place[:, 1],
        known_at_us=known,
    )


def _refuse(rows: EventRows, messages: Sequence[Message]) -> tuple[EventRows, list[BadRecord]]:
    """Take out what breaks a check whose remedy is the dead letter; the first one gives the
    reason. `messages` are those of the rows."""
    reasons: dict[int, str] = {}
    for check in rows.event.checks_that("dead_letter"):
        arrays = arrays_of(rows.fields, rows.event.record, check.reads)
        for i in np.flatnonzero(broken(check, arrays)).tolist():
            reasons.setdefault(i, f"it breaks the check {check.name!r}")
    if not reasons:
        return rows, []
    bad = [
        BadRecord(message=messages[i], code="check_failed", reason=r) for i, r in reasons.items()
    ]
    return rows.where(~np.isin(np.arange(len(rows)), list(reasons))), bad

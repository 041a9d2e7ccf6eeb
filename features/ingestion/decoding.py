"""From a poll to columns: good events by topic, bad records apart, nothing lost between."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from features.contracts.codec import decode_message
from features.definitions import EventType
from features.engine.checks import violations
from features.engine.columns import arrays_of, field_tuples
from features.engine.event_rows import EventRows
from features.errors import MalformedEvent
from infra.clock import MILLISECOND
from infra.kafka.message import Message


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
    for check in rows.event.checks_with("dead_letter"):
        arrays = arrays_of(rows.fields, rows.event.record, check.reads)
        for i in np.flatnonzero(violations(check, arrays)).tolist():
            reasons.setdefault(i, f"it breaks the check {check.name!r}")
    if not reasons:
        return rows, []
    bad = [
        BadRecord(message=messages[i], code="check_failed", reason=r) for i, r in reasons.items()
    ]
    return rows.where(~np.isin(np.arange(len(rows)), list(reasons))), bad

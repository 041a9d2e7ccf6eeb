"""Decodes a poll: good events become columns by topic, bad records are listed with their reason."""

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
    """A record that cannot be used, and why."""

    message: Message
    code: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """The good events of a poll, by topic, and its bad records."""

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
    bad: list[BadRecord] = []
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
    good = []
    for topic, of_topic in records.items():
        rows = _rows(events[topic], of_topic, origins[topic])
        valid, violating = _split_by_checks(rows, origins[topic])
        bad += violating
        if len(valid):
            good.append(valid)
    return Decoded(good=good, bad=bad)


def _rows(event: EventType, records: Sequence[Any], messages: Sequence[Message]) -> EventRows:
    places = [(m.partition(), m.offset(), m.timestamp()[1] * MILLISECOND) for m in messages]
    place = np.array(places, np.int64)
    fields = field_tuples(records, event.fields)
    known = emitted = place[:, 2]
    if event.known_after_us:
        happened = np.array(fields["event_time_us"], np.int64)
        known = np.maximum(emitted, happened + event.known_after_us)
    return EventRows(
        event=event,
        fields=fields,
        partition=place[:, 0],
        offset=place[:, 1],
        known_at_us=known,
        emitted_at_us=emitted,
    )


def _split_by_checks(
    rows: EventRows, messages: Sequence[Message]
) -> tuple[EventRows, list[BadRecord]]:
    """Separate the rows that violate a check whose action is the dead letter.

    The first violated check gives the reason. `messages` are those of the rows.
    """
    reasons: dict[int, str] = {}
    for check in rows.event.checks_with("dead_letter"):
        arrays = arrays_of(rows.fields, rows.event.record, check.reads)
        for i in np.flatnonzero(violations(check, arrays)).tolist():
            reasons.setdefault(i, f"it violates the check {check.name!r}")
    if not reasons:
        return rows, []
    bad = [
        BadRecord(message=messages[i], code="check_failed", reason=r) for i, r in reasons.items()
    ]
    return rows.where(~np.isin(np.arange(len(rows)), list(reasons))), bad

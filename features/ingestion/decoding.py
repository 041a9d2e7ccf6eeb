"""Decodes a poll: good events become columns by topic, bad records are listed with their reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from features.contracts.codec import decode_message
from features.definitions import BoolArray, Check, EventType
from features.engine.checks import violations
from features.engine.columns import arrays_of, field_tuples
from features.engine.event_rows import EventRows
from features.errors import FormulaFailed, MalformedEvent
from features.ingestion.failing_events import Attempt, failing
from infra.clock import MILLISECOND
from infra.kafka.message import Message

FORMULA_FAILED = "formula_failed"


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
    messages: Sequence[Message] = ()

    def without(self, attempt: Attempt) -> "Decoded":
        """The good events that `attempt` does not fail for; the others become bad records."""
        messages = {(m.topic(), m.partition(), m.offset()): m for m in self.messages}
        good, bad = [], list(self.bad)
        for rows in self.good:
            reasons = failing(rows, attempt)
            for i, reason in reasons.items():
                place = (rows.event.name, int(rows.partition[i]), int(rows.offset[i]))
                bad.append(BadRecord(message=messages[place], code=FORMULA_FAILED, reason=reason))
            kept = rows.where(~np.isin(np.arange(len(rows)), list(reasons)))
            if len(kept):
                good.append(kept)
        return replace(self, good=good, bad=bad)


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
    return Decoded(good=good, bad=bad, messages=messages)


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


def _split_by_checks(
    rows: EventRows, messages: Sequence[Message]
) -> tuple[EventRows, list[BadRecord]]:
    """Separate the rows that violate a check whose action is the dead letter.

    The first violated check gives the reason. `messages` are those of the rows.
    """
    reasons: dict[int, tuple[str, str]] = {}
    for check in rows.event.checks_with("dead_letter"):
        violating, unknown = _violating(check, rows)
        for i, why in unknown.items():
            reasons.setdefault(i, (FORMULA_FAILED, why))
        for i in violating:
            reasons.setdefault(i, ("check_failed", f"it violates the check {check.name!r}"))
    if not reasons:
        return rows, []
    bad = [
        BadRecord(message=messages[i], code=code, reason=why) for i, (code, why) in reasons.items()
    ]
    return rows.where(~np.isin(np.arange(len(rows)), list(reasons))), bad


def _violating(check: Check, rows: EventRows) -> tuple[list[int], Mapping[int, str]]:
    """The events that violate a check, and those for which that is not known, with the reason."""

    def violates(some: EventRows) -> BoolArray:
        return violations(check, arrays_of(some.fields, some.event.record, check.reads))

    try:
        return np.flatnonzero(violates(rows)).tolist(), {}
    except FormulaFailed:
        unknown = failing(rows, violates)
    known = np.setdiff1d(np.arange(len(rows)), list(unknown))
    some = rows.where(np.isin(np.arange(len(rows)), known))
    return known[violates(some)].tolist() if len(known) else [], unknown

"""The reference page of all events, generated from the declarations.

`eventide schemas --page` prints it; a test holds `docs/reference/events.md` to it.
"""

import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from features.contracts.dead_letters import HEADER_PREFIX, dead_letter_headers
from features.contracts.predictions import SCHEMA, Outcome
from features.contracts.topics import (
    INGEST_DEAD_LETTERS,
    REPLAY_PROGRESS,
    SERVING_DEAD_LETTERS,
    topic_specs,
)
from features.definitions import Domain, EventType

_UNITS = {
    "_time_us": "microseconds since 1970, UTC",
    "_at_us": "microseconds since 1970, UTC",
    "_departure_us": "microseconds since 1970, UTC",
    "_arrival_us": "microseconds since 1970, UTC",
    "_minutes": "minutes",
    "_minute": "minutes after midnight",
    "_miles": "miles",
    "_f": "degrees Fahrenheit",
    "_percent": "percent",
    "_degrees": "degrees",
    "_mph": "miles an hour",
    "_inches": "inches",
    "_mbar": "millibar",
    "_cents": "cents",
}
_COMMENT = re.compile(r"^\s+(\w+): [^#\n]*#\s*(.+)$", re.MULTILINE)

_INTRODUCTION = """\
# Events

Generated from the declarations by `eventide schemas --page`; do not edit.

A record's value is JSON: one object with the fields below. Its key is the field given for the
topic, as UTF-8: all records of one key are in one partition, in the order in which they were sent.
Its timestamp is when the source published the event, in milliseconds; `event_time_us` in the value
is when it happened. Its header `schema` has the event's name and version (`flight.departed/1`);
a record without the header has the current version. Unknown fields are ignored. A record that does
not fit its schema goes to the dead-letter topic, byte for byte.

A JSON Schema of the current version is kept beside the declarations.
[Change an event](../how-to/change-an-event.md) says what may change, and how.
"""


def events_page(domains: Sequence[Domain]) -> str:
    """The whole page, in Markdown."""
    parts = [_INTRODUCTION, _topics(domains)]
    for domain in domains:
        parts += [_event(event, domain) for event in domain.events]
    parts += [_outcome(domains), _dead_letters(), _progress()]
    return "\n".join(parts)


def _topics(domains: Sequence[Domain]) -> str:
    keys = {e.name: f"`{e.key}`" for d in domains for e in d.events}
    rows = [
        f"| `{s.name}` | {keys.get(s.name, '')} | {s.partitions} |"
        f" {', '.join(f'`{k}={v}`' for k, v in s.config.items())} |"
        for s in topic_specs(domains)
    ]
    head = "## Topics\n\n| topic | key | partitions | settings |\n| --- | --- | --- | --- |"
    return "\n".join([head, *rows, ""])


def _event(event: EventType, domain: Domain) -> str:
    schema = f"{event.name}.v{event.version}.json"
    link = f"../../features/catalog/{domain.name}/schemas/{schema}"
    about = f"{_words(event.record)}\n\nKey: `{event.key}`. Schema: [`{schema}`]({link})."
    return f"## {event.name}\n\n{about}\n\n{_fields(event.record)}"


def _outcome(domains: Sequence[Domain]) -> str:
    topics = ", ".join(f"`{d.predictions_topic}`" for d in domains if d.services)
    schema = f"{SCHEMA.replace('/', '.v')}.json"
    link = f"[`{schema}`](../../features/contracts/schemas/{schema})"
    return (
        f"## Outcomes: {topics}\n\n{_words(Outcome)}\n\nThe key is that of the request."
        f" Schema: {link}.\n\n{_fields(Outcome)}"
    )


def _dead_letters() -> str:
    headers = dead_letter_headers(
        consumer="", topic="", partition=0, offset=0, timestamp_ms=0, code="", reason="", at_us=0
    )
    names = ", ".join(f"`{name}`" for name, _ in headers)
    return (
        f"## Dead letters: `{INGEST_DEAD_LETTERS}`, `{SERVING_DEAD_LETTERS}`\n\n"
        "Key, value and headers are those of the rejected record, byte for byte. More headers say"
        f" why and when it was rejected, and where it came from: {names}. A record that is too"
        f" large for the topic comes without its value, with `{HEADER_PREFIX}truncated`.\n"
    )


def _progress() -> str:
    return (
        f"## Position of replays: `{REPLAY_PROGRESS}`\n\n"
        "How much of a recording has been sent, committed in one transaction with the events."
        " The key is the recording's name and a digest of the options.\n"
    )


def _fields(record: type[msgspec.Struct]) -> str:
    classes = [c for c in record.__mro__ if c.__module__ == record.__module__]
    notes = {f: note for c in classes for f, note in _COMMENT.findall(inspect.getsource(c))}
    rows = [
        f"| `{f.encode_name}` | {kind} | {'yes' if f.required else 'no'} | {bounds} |"
        f" {_unit(f.name)} | {notes.get(f.name, '')} |"
        for f in msgspec.structs.fields(record)
        for kind, bounds in [_kind(f.type)]
    ]
    head = (
        "| field | type | required | bounds | unit | note |\n| --- | --- | --- | --- | --- | --- |"
    )
    return "\n".join([head, *rows, ""])


def _kind(field_type: Any) -> tuple[str, str]:
    """The JSON types of a field, and its bounds in words."""
    schema = msgspec.json.schema(field_type)
    types = schema.get("anyOf", [schema])
    names = [_one_of(t) if "enum" in t else str(t["type"]) for t in types]
    return " or ".join(names), "; ".join(bounds for t in types for bounds in _bounds(t))


def _one_of(schema: dict[str, Any]) -> str:
    return " or ".join(f"`{value}`" for value in schema["enum"])


def _bounds(schema: dict[str, Any]) -> Iterator[str]:
    for low, high, unit in (("minimum", "maximum", ""), ("minLength", "maxLength", " characters")):
        if low in schema or high in schema:
            yield f"{schema.get(low, '')} to {schema.get(high, '')}{unit}"


def _unit(name: str) -> str:
    return next((unit for end, unit in _UNITS.items() if name.endswith(end)), "")


def _words(record: type[msgspec.Struct]) -> str:
    return inspect.getdoc(record) or ""

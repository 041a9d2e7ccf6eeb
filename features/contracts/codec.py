"""From bytes to records and back: behind this module no code meets a dict from the wire.

The wire format is the JSON of the record. The `schema` header has the event's name and version;
without it the current version is assumed. Unknown fields are ignored, so a newer producer may add
some.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

import msgspec
from msgspec import inspect

from features.contracts.printable import unprintable_field
from features.definitions import EventType
from features.definitions.field_types import field_types, int_bounds, split_null
from features.errors import MalformedEvent
from infra.clock import now_us
from infra.kafka.message import UnreadableHeaders, UnreadableMessage, headers_of

SCHEMA_HEADER: Final = "schema"
MAX_BYTES: Final = 256 * 1024
LEAST, LARGEST = -(2**63), 2**63 - 1  # integers of 64 bits
MIN_TIME_US: Final = 631_152_000_000_000  # 1990: an earlier time is probably in other units

EMITTED_IN_THE_FUTURE: Final = "it was emitted in the future"
"""The reason of records that a wrong clock of ours refuses too."""

CODES: Final = (
    "empty",  # no value, or an empty one
    "too_large",  # more than MAX_BYTES
    "unknown_schema",  # the header names another event or a version that is not known here
    "not_json",
    "missing_field",
    "wrong_type",
    "out_of_range",  # outside the bounds that the record declares, beyond 64 bits among them
    "bad_key",  # the Kafka key is not the declared key field, so the order of its events is lost
    "time_travel",  # it happened after it was emitted, or was emitted in the future
    "check_failed",  # it fails a check of its declaration
)
"""Why a record is refused. The list is closed: dashboards and alerts are built on it."""

Headers = Sequence[tuple[str, bytes | str | None]] | None


def decode(event: EventType, value: bytes | None, headers: Headers = None) -> Any:
    """The record in a message's value; an instance of `event.record`.

    Raises:
        MalformedEvent: with one of `CODES`; never another exception, whatever the bytes are.
    """
    if not value:
        raise MalformedEvent(code="empty", reason="the message has no value")
    if len(value) > MAX_BYTES:
        raise MalformedEvent(code="too_large", reason=f"{len(value)} bytes, at most {MAX_BYTES}")
    if headers:
        _check_schema(event, headers)
    try:
        record = _decoder(event.record).decode(value)
    except msgspec.ValidationError as error:
        raise MalformedEvent(code=_code(str(error)), reason=_shortened(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise MalformedEvent(code="not_json", reason="the value is not JSON") from None
    _check_integers(record)
    if field := unprintable_field(record, value):
        raise MalformedEvent(code="out_of_range", reason=f"{field!r} holds a control character")
    return record


def check_key(event: EventType, record: Any, key: bytes | None) -> None:
    """Raises MalformedEvent if the Kafka key is not the UTF-8 of the declared key field.

    Order and deduplication hold within a partition, and the key decides the partition.
    """
    if key is None or getattr(record, event.key).encode() != key:
        raise MalformedEvent(code="bad_key", reason=f"the key is not the field {event.key!r}")


def check_times(record: Any, *, known_at_us: int, max_future_us: int, clock_us: int) -> None:
    """Raises MalformedEvent if the record breaks the order of time.

    It may have happened at most `max_future_us` after it was emitted (`known_at_us`), and may have
    been emitted at most as much after `clock_us`: one time in the far future would
    compact the whole online state.
    """
    if known_at_us < MIN_TIME_US or record.event_time_us < MIN_TIME_US:
        raise MalformedEvent(code="time_travel", reason="its time lies before 1990")
    if record.event_time_us > known_at_us + max_future_us:
        raise MalformedEvent(code="time_travel", reason="it happened after it was emitted")
    if known_at_us > clock_us + max_future_us:
        raise MalformedEvent(code="time_travel", reason=EMITTED_IN_THE_FUTURE)


def decode_message(
    event: EventType, message: Any, *, max_future_us: int, clock_us: int | None = None
) -> Any:
    """The record of a Kafka message (confluent_kafka's), with its key and its times checked.

    Raises:
        MalformedEvent: retrying cannot help.
    """
    if isinstance(message, UnreadableMessage):
        raise MalformedEvent(code="not_json", reason=f"the client cannot read it: {message.why}")
    try:
        headers = headers_of(message)
    except UnreadableHeaders as error:
        raise MalformedEvent(code="unknown_schema", reason=str(error)) from None
    record = decode(event, message.value(), headers)
    check_key(event, record, message.key())
    check_times(
        record,
        known_at_us=known_at_us(message),
        max_future_us=max_future_us,
        clock_us=now_us() if clock_us is None else clock_us,
    )
    return record


def mostly_future(reasons: Sequence[str], records: int) -> bool:
    """Whether so many of `records` are refused as from the future that a clock is wrong.

    `reasons`: those of the refused ones. A single record is never enough.
    """
    future = sum(reason == EMITTED_IN_THE_FUTURE for reason in reasons)
    return future >= 2 and 2 * future > records


def known_at_us(message: Any) -> int:
    """When the source emitted the message's event: its Kafka timestamp, in microseconds."""
    timestamp_ms: int = message.timestamp()[1]
    return timestamp_ms * 1_000


def encode(record: msgspec.Struct) -> bytes:
    """The value of a record's message."""
    return _ENCODER.encode(record)


def encode_key(event: EventType, record: Any) -> bytes:
    """The Kafka key of a record."""
    key: str = getattr(record, event.key)
    return key.encode()


def schema_headers(event: EventType) -> list[tuple[str, bytes]]:
    """The headers of an event's message."""
    return [(SCHEMA_HEADER, event.schema.encode())]


_ENCODER = msgspec.json.Encoder()


@cache
def _decoder(record: type[msgspec.Struct]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(record)


def _check_integers(record: msgspec.Struct) -> None:
    """JSON has integers of any length, and the decoder takes up to 4,300 digits."""
    for name in _fields_without_bounds(type(record)):
        value = getattr(record, name)
        if value is not None and not LEAST <= value <= LARGEST:
            reason = f"Expected an integer of 64 bits - at `$.{name}`"
            raise MalformedEvent(code="out_of_range", reason=reason)


@cache
def _fields_without_bounds(record: type[msgspec.Struct]) -> tuple[str, ...]:
    """The integers of a record that may be of any length; bounds are of 64 bits themselves."""
    return tuple(name for name, of in field_types(record).items() if _may_be_of_any_length(of))


def _may_be_of_any_length(of: inspect.Type) -> bool:
    plain, _ = split_null(of)
    return isinstance(plain, inspect.IntType) and any(map(math.isinf, int_bounds(plain)))


def _check_schema(event: EventType, headers: Sequence[tuple[str, bytes | str | None]]) -> None:
    for name, value in headers:
        if name == SCHEMA_HEADER and value not in _schema_forms(event.name, event.version):
            reason = f"the header names another schema than {event.schema}"
            raise MalformedEvent(code="unknown_schema", reason=reason)


@cache
def _schema_forms(name: str, version: int) -> tuple[bytes, str]:
    schema = f"{name}/{version}"
    return schema.encode(), schema


_CODE_OF_PREFIX: Mapping[str, str] = {
    "Object missing required field": "missing_field",
    "Expected `int` >=": "out_of_range",
    "Expected `int` <=": "out_of_range",
    "Expected `float` >=": "out_of_range",
    "Expected `float` <=": "out_of_range",
    "Expected `str` of length": "out_of_range",
    "Integer value out of range": "out_of_range",
    "Number out of range": "out_of_range",
}


def _code(message: str) -> str:
    """msgspec has one error class for all mistakes; only its message distinguishes them."""
    return next((c for p, c in _CODE_OF_PREFIX.items() if message.startswith(p)), "wrong_type")


def _shortened(message: str) -> str:
    """msgspec quotes unknown tags and enum values; ours have none, but cut it all the same."""
    return message[:200]

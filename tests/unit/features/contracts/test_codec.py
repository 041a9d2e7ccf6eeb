"""All bytes become a record or a MalformedEvent with a documented code."""

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.catalog import event_types
from features.catalog.flights.events import DEPARTED, WEATHER, FlightDeparted, WeatherObserved
from features.contracts.codec import (
    CODES,
    MAX_BYTES,
    MIN_TIME_US,
    check_key,
    check_times,
    decode,
    encode,
    encode_key,
    schema_headers,
)
from features.definitions import EventType
from features.errors import MalformedEvent
from features.ingestion.decoding import Decoded, decode_poll
from infra.clock import DAY, MINUTE
from tests.support.examples import examples

NOON_US = 1_357_041_600_000_000


def departure(**changes: Any) -> FlightDeparted:
    return FlightDeparted(
        **{
            "event_id": "e1",
            "event_time_us": NOON_US,
            "flight_id": "UA-1-EWR-20130101",
            "carrier": "UA",
            "flight": 1,
            "origin": "EWR",
            "dest": "IAH",
            "tailnum": None,
            "departure_delay_minutes": 3,
            **changes,
        }
    )


def changed(field: str, value: str) -> bytes:
    """A departure as JSON, with the text of one value replaced."""
    fields = {
        k: msgspec.json.encode(v).decode() for k, v in msgspec.to_builtins(departure()).items()
    }
    fields[field] = value
    return ("{" + ",".join(f'"{k}":{v}' for k, v in fields.items()) + "}").encode()


def code_of(event: EventType, value: bytes | None, headers: Any = None) -> str:
    with pytest.raises(MalformedEvent) as caught:
        decode(event, value, headers)
    return caught.value.code


def test_an_encoded_record_is_decoded_to_an_equal_record() -> None:
    assert decode(DEPARTED, encode(departure()), schema_headers(DEPARTED)) == departure()


def test_unknown_fields_and_a_missing_header_are_accepted() -> None:
    assert decode(DEPARTED, changed("gate", '"B7"')) == departure()
    assert decode(DEPARTED, encode(departure()), [("traceparent", b"x")]) == departure()


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"flight 1 has left", "not_json"),
        (b"\xff\xfe\x00", "not_json"),
        (b'{"event_id": "e1"', "not_json"),
        (changed("departure_delay_minutes", "NaN"), "not_json"),
        (changed("carrier", '"\\ud800"'), "not_json"),
        (changed("gate", "[" * 100_000 + "]" * 100_000), "not_json"),
        (b"\x00" * 1_000_000, "too_large"),
        (b"[]", "wrong_type"),
        (b"{}", "missing_field"),
        (changed("flight", '"one"'), "wrong_type"),
        (changed("flight", "1.5"), "wrong_type"),
        (changed("carrier", "null"), "wrong_type"),
        (changed("flight", "-1"), "out_of_range"),
        (changed("flight", "9" * 30), "out_of_range"),
        (changed("flight", "9" * 5_000), "out_of_range"),
        (changed("departure_delay_minutes", "1e999"), "out_of_range"),
        (changed("event_time_us", "0"), "out_of_range"),
        (changed("carrier", '""'), "out_of_range"),
        (changed("carrier", '"' + "X" * 50 + '"'), "out_of_range"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_code(value: bytes | None, code: str) -> None:
    assert code_of(DEPARTED, value) == code


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers without bounds."""

    event_id: str = "e"
    event_time_us: int = NOON_US
    number: int = 0
    some: int | None = None
    ratio: float = 0.0
    least: Annotated[int, msgspec.Meta(ge=0)] = 0


COUNTED = EventType(name="made.counted", record=Counted, key="event_id")


@pytest.mark.parametrize("field", ["number", "some", "least", "event_time_us"])
@pytest.mark.parametrize("number", [2**63, 2**64, 2**64 + 5, 2**70, 10**400, 10**4_000])
def test_an_integer_beyond_64_bits_is_out_of_range(field: str, number: int) -> None:
    assert code_of(COUNTED, f'{{"{field}": {number}}}'.encode()) == "out_of_range"
    if field != "least":
        assert code_of(COUNTED, f'{{"{field}": {-number - 1}}}'.encode()) == "out_of_range"


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 0, None])
def test_every_integer_of_64_bits_is_read(number: int | None) -> None:
    value = msgspec.json.encode(
        {"some": number, "number": number or 0, "least": abs(number or 1) - 1}
    )
    record = decode(COUNTED, value)
    assert (record.some, record.number) == (number, number or 0)


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" + "0" * 400])
def test_a_float_beyond_its_range_is_out_of_range(number: str) -> None:
    assert code_of(COUNTED, f'{{"ratio": {number}}}'.encode()) == "out_of_range"
    assert decode(COUNTED, b'{"ratio": 1e308}').ratio == 1e308


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_of_json_is_not_json(number: str) -> None:
    assert code_of(COUNTED, f'{{"ratio": {number}}}'.encode()) == "not_json"


@pytest.mark.parametrize("schema", [b"flight.departed/2", b"flight.landed/1", b"", None, b"\xff"])
def test_a_schema_other_than_the_current_one_is_refused(schema: bytes | None) -> None:
    assert code_of(DEPARTED, encode(departure()), [("schema", schema)]) == "unknown_schema"


@examples(300)
@given(st.sampled_from(event_types()), st.binary(max_size=300))
def test_no_bytes_raise_anything_but_a_malformed_event(event: EventType, value: bytes) -> None:
    with pytest.raises(MalformedEvent) as caught:
        decode(event, value)
    assert caught.value.code in CODES


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=5,
)


@examples(300)
@given(st.dictionaries(st.sampled_from(DEPARTED.fields), json_values, min_size=1))
def test_a_record_with_any_values_is_read_or_refused(values: dict[str, Any]) -> None:
    value = msgspec.json.encode(msgspec.to_builtins(departure()) | values)
    try:
        flight = decode(DEPARTED, value).flight
    except MalformedEvent:
        flight = 0
    assert 0 <= flight <= 99_999


def test_the_reason_does_not_quote_the_payload() -> None:
    with pytest.raises(MalformedEvent) as caught:
        decode(DEPARTED, changed("flight", '"secret"'))
    assert "secret" not in str(caught.value)


def test_a_key_that_is_not_the_key_field_is_refused() -> None:
    check_key(DEPARTED, departure(), encode_key(DEPARTED, departure()))
    for key in (None, b"", b"UA-2-EWR-20130101", b"\xff"):
        with pytest.raises(MalformedEvent, match="bad_key"):
            check_key(DEPARTED, departure(), key)


@pytest.mark.parametrize(
    ("happened_us", "known_us", "clock_us", "fine"),
    [
        (NOON_US, NOON_US, NOON_US, True),
        (NOON_US - 10**13, NOON_US, NOON_US + 10**13, True),
        (NOON_US + 10 * MINUTE, NOON_US, NOON_US, True),
        (NOON_US + 10 * MINUTE + 1, NOON_US, NOON_US, False),
        (NOON_US, NOON_US + 10 * MINUTE, NOON_US, True),
        (NOON_US, NOON_US + 10 * MINUTE + 1, NOON_US, False),
        (NOON_US, -1_000, NOON_US, False),
    ],
)
def test_an_event_may_happen_or_be_emitted_slightly_in_the_future(
    happened_us: int, known_us: int, clock_us: int, fine: bool
) -> None:
    record = departure(event_time_us=happened_us)

    def check() -> None:
        check_times(record, known_at_us=known_us, max_future_us=10 * MINUTE, clock_us=clock_us)

    if fine:
        check()
    else:
        with pytest.raises(MalformedEvent, match="time_travel"):
            check()


def test_the_largest_event_fits_well_below_the_limit() -> None:
    reading = WeatherObserved(
        event_id="x" * 100,
        event_time_us=NOON_US,
        origin="x" * 10,
        **dict.fromkeys(WEATHER.fields[3:], -9999.123456789012),
    )
    assert len(encode(reading)) * 100 < MAX_BYTES


def an_event(event: EventType, event_time_us: int) -> dict[str, Any]:
    """Valid fields of any declared event: numbers at their minimum, texts of one letter."""
    (_, components) = msgspec.json.schema_components([event.record])
    fields = components[event.record.__name__]["properties"]
    lowest = {name: _lowest(schema) for name, schema in fields.items()}
    return {**lowest, "event_time_us": event_time_us}


def _lowest(schema: Any) -> Any:
    schema = schema.get("anyOf", [schema])[0]
    return "x" if schema["type"] == "string" else schema.get("minimum", 0)


JUST_BEFORE_1990_US = MIN_TIME_US - 1
IN_30_DAYS_US = NOON_US + 30 * DAY


@dataclass(frozen=True, kw_only=True)
class AMessage:
    """Replaces the client's message."""

    event: EventType
    fields: dict[str, Any]
    known_us: int

    def topic(self) -> str:
        return self.event.name

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 7

    def key(self) -> bytes:
        key: str = self.fields[self.event.key]
        return key.encode()

    def value(self) -> bytes:
        return msgspec.json.encode(self.fields)

    def headers(self) -> list[tuple[str, bytes]]:
        return schema_headers(self.event)

    def timestamp(self) -> tuple[int, int]:
        return 1, self.known_us // 1_000


@pytest.mark.parametrize("event", event_types(), ids=lambda e: e.name)
@pytest.mark.parametrize(
    ("happened_us", "known_us"),
    [
        pytest.param(IN_30_DAYS_US, NOON_US, id="happens in 30 days"),
        pytest.param(NOON_US, IN_30_DAYS_US, id="emitted in 30 days"),
        pytest.param(IN_30_DAYS_US, IN_30_DAYS_US, id="both in 30 days"),
        pytest.param(JUST_BEFORE_1990_US, NOON_US, id="happened before 1990"),
        pytest.param(NOON_US, JUST_BEFORE_1990_US, id="emitted before 1990"),
        pytest.param(MIN_TIME_US + MINUTE, JUST_BEFORE_1990_US, id="emitted just before 1990"),
        pytest.param(JUST_BEFORE_1990_US, JUST_BEFORE_1990_US, id="both before 1990"),
    ],
)
def test_no_event_with_an_implausible_time_reaches_a_store(
    event: EventType, happened_us: int, known_us: int
) -> None:
    def decoded(happened_us: int, known_us: int) -> Decoded:
        message = AMessage(event=event, fields=an_event(event, happened_us), known_us=known_us)
        return decode_poll(
            [message],  # type: ignore[list-item]
            {event.name: event},
            max_future_us=10 * MINUTE,
            clock_us=NOON_US,
        )

    implausible = decoded(happened_us, known_us)
    assert list(implausible.good) == []
    # The bound of a field may refuse the event before the check of times does.
    assert implausible.bad[0].code in ("time_travel", "out_of_range")
    sound = decoded(NOON_US, NOON_US)
    assert ([len(rows) for rows in sound.good], list(sound.bad)) == ([1], [])

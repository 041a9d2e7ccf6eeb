"""Whole Kafka messages as a hostile or careless producer makes them."""

from dataclasses import dataclass
from typing import Any

import msgspec
from hypothesis import strategies as st

from features.catalog.flights.events import REQUESTED
from infra.kafka.message import ClientError
from tests.support.data.messages import NOON_US, a_request


@dataclass(kw_only=True)
class HostileMessage:
    """Behaves like the client's message: each look at unreadable headers fails."""

    its_value: bytes | None
    its_key: bytes | None
    its_headers: list[tuple[str, Any]] | None
    its_timestamp_ms: int
    headers_are_readable: bool = True
    its_offset: int = 0

    def topic(self) -> str:
        return REQUESTED.name

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.its_offset

    def key(self) -> bytes | None:
        return self.its_key

    def value(self) -> bytes | None:
        return self.its_value

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        if self.headers_are_readable:
            return self.its_headers
        raise SystemError("<method> returned a result with an exception set")

    def timestamp(self) -> tuple[int, int]:
        return (1, self.its_timestamp_ms)

    def error(self) -> ClientError | None:
        return None


SOUND = a_request()
_value = msgspec.json.encode(SOUND)
values = st.one_of(
    st.none(),
    st.binary(max_size=400),
    st.just(_value),
    st.sampled_from([b"", b"null", b"{}", b"[" * 50_000, b" " * 300_000, b'"' + b"x" * 300_000]),
    st.builds(  # a sound record with some bytes changed
        lambda at, more: _value[: at % len(_value)] + more + _value[at % len(_value) :],
        st.integers(0, 10_000),
        st.binary(max_size=4),
    ),
)
keys = st.one_of(
    st.none(),
    st.binary(max_size=40),
    st.just(SOUND.flight_id.encode()),
    st.integers(0, 3_000_000).map(lambda n: b"k" * n),
)
header_values = st.one_of(st.none(), st.binary(max_size=40), st.text(max_size=10))
headers = st.one_of(
    st.none(),
    st.lists(
        st.tuples(st.sampled_from(["schema", "traceparent", "dlq.topic", "", "x"]), header_values),
        max_size=6,
    ),
    st.integers(0, 3_000_000).map(lambda n: [("h" * (n % 1_000), b"v" * n)]),
    st.just([("schema", REQUESTED.schema.encode())]),
)
timestamps_ms = st.one_of(
    st.just(NOON_US // 1_000),
    st.sampled_from([-(1 << 63), -1, 0, 1, (1 << 63) - 1, (1 << 63) // 1_000, 253_402_300_800_000]),
    st.integers(-(1 << 63), (1 << 63) - 1),
)
messages = st.builds(
    HostileMessage,
    its_value=values,
    its_key=keys,
    its_headers=headers,
    its_timestamp_ms=timestamps_ms,
    headers_are_readable=st.booleans(),
)

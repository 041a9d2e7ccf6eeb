"""No message stops a process: it is decoded, or it becomes one bad record with a reason."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.catalog.flights.events import REQUESTED
from features.contracts.codec import CODES
from features.contracts.dead_letters import LARGEST, SMALL, dead_letter, source_of_dead_letter
from features.ingestion.decoding import decode_poll
from infra.clock import MINUTE
from infra.kafka.message import UnreadableMessage, readable_headers
from infra.kafka.partitions import Partition
from infra.kafka.transactions import ProducerRecord
from tests.support.data.hostile import HostileMessage, messages
from tests.support.data.messages import NOON_US, AMessage, a_message
from tests.support.faults import FaultCounts

P = Partition(REQUESTED.name, 0)


def size_of(record: ProducerRecord) -> int:
    headers = sum(len(name) + len(value or b"") for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers


@pytest.mark.slow
def test_each_message_is_decoded_or_becomes_one_dead_letter_that_its_topic_takes(
    faults: FaultCounts,
) -> None:
    limits = settings(max_examples=faults.hostile_messages, deadline=None)
    limits(given(st.lists(messages, min_size=1, max_size=5))(_check_poll))()


def _check_poll(poll: list[HostileMessage]) -> None:
    for n, message in enumerate(poll):
        message.its_offset = n
    decoded = decode_poll(
        poll, {REQUESTED.name: REQUESTED}, max_future_us=10 * MINUTE, clock_us=NOON_US
    )
    good = [int(offset) for rows in decoded.good for offset in rows.offset]
    bad = [b.message.offset() for b in decoded.bad]
    assert sorted(good + bad) == list(range(len(poll)))
    for record in decoded.bad:
        assert record.code in CODES
        letter = dead_letter(
            record.message, consumer="ingest", code=record.code, reason=record.reason, at_us=1
        )
        assert size_of(letter) < LARGEST + 10_000
        as_sent = AMessage(its_value=letter.value, its_headers=tuple(letter.headers))
        assert source_of_dead_letter(as_sent) == (P, record.message.offset())


def test_headers_that_cannot_be_read_make_a_bad_record_and_a_dead_letter_without_them() -> None:
    unreadable = HostileMessage(
        its_value=a_message().value(),
        its_key=b"flight-1",
        its_headers=None,
        its_timestamp_ms=NOON_US // 1_000,
        headers_are_readable=False,
    )
    decoded = decode_poll(
        [unreadable], {REQUESTED.name: REQUESTED}, max_future_us=MINUTE, clock_us=NOON_US
    )
    assert [(b.code, b.reason) for b in decoded.bad] == [
        ("unknown_schema", "the name of a header is not UTF-8")
    ]
    assert readable_headers(unreadable) == []


def test_headers_are_read_without_an_error_where_nobody_read_them_before() -> None:
    unreadable = HostileMessage(
        its_value=None,
        its_key=None,
        its_headers=None,
        its_timestamp_ms=0,
        headers_are_readable=False,
    )
    assert readable_headers(unreadable) == []


def test_a_record_that_the_client_cannot_read_is_a_bad_record_by_its_place() -> None:
    message = UnreadableMessage(P, 7, why="_BAD_COMPRESSION")
    decoded = decode_poll(
        [message], {REQUESTED.name: REQUESTED}, max_future_us=MINUTE, clock_us=NOON_US
    )
    (bad,) = decoded.bad
    assert (bad.code, bad.reason) == ("not_json", "the client cannot read it: _BAD_COMPRESSION")
    letter = dead_letter(message, consumer="ingest", code=bad.code, reason=bad.reason, at_us=1)
    assert dict(letter.headers)["dlq.offset"] == b"7"


def test_each_part_of_a_dead_letter_is_cut_by_itself_and_named() -> None:
    def cut(limit: int = LARGEST, **its: object) -> tuple[ProducerRecord, bytes | None]:
        message = AMessage(**{"its_value": b"v", **its})  # type: ignore[arg-type]
        letter = dead_letter(
            message, consumer="ingest", code="too_large", reason="", at_us=1, limit=limit
        )
        return letter, dict(letter.headers).get("dlq.cut")

    letter, which = cut(its_value=b"x" * 5_000_000)
    assert (which, letter.value, letter.key) == (b"value", None, b"flight-1")
    letter, which = cut(its_key=b"x" * 5_000_000)
    assert (which, letter.value, letter.key) == (b"key", b"v", None)
    letter, which = cut(its_headers=(("a", b"x" * 5_000_000), ("schema", b"s/1")))
    assert (which, letter.value) == (b"headers", b"v")
    assert "schema" not in dict(letter.headers)
    letter, which = cut(its_value=b"x" * 1_048_000, its_headers=(("a", b"1"),))
    assert (which, len(letter.value or b"")) == (None, 1_048_000)
    assert cut(its_value=b"x" * 190_000, limit=SMALL)[1] == b"value"
    assert cut(its_value=b"x" * 100_000, limit=SMALL)[1] is None

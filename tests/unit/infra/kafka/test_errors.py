"""The kinds of the client's errors, and member ids."""

import pytest
from confluent_kafka import KafkaError

from infra.kafka.errors import ConsumerFailed, ErrorKind, classify
from infra.kafka.membership import member_id


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (KafkaError._PARTITION_EOF, ErrorKind.NOT_AN_ERROR),
        (KafkaError._TIMED_OUT, ErrorKind.NOT_AN_ERROR),
        (KafkaError._ALL_BROKERS_DOWN, ErrorKind.TRANSIENT),
        (KafkaError.NOT_COORDINATOR, ErrorKind.TRANSIENT),
        (KafkaError._MAX_POLL_EXCEEDED, ErrorKind.LEFT_GROUP),
        (KafkaError.OFFSET_OUT_OF_RANGE, ErrorKind.POSITION_LOST),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, ErrorKind.UNKNOWN_TOPIC),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, ErrorKind.FATAL),
        (KafkaError._FENCED, ErrorKind.FATAL),
    ],
)
def test_each_error_has_its_documented_kind(code: int, expected: ErrorKind) -> None:
    assert classify(KafkaError(code)) is expected


def test_an_error_that_the_client_marks_fatal_is_fatal() -> None:
    assert classify(KafkaError(KafkaError._TRANSPORT, fatal=True)) is ErrorKind.FATAL


def test_an_unknown_error_is_transient_only_if_it_is_retriable() -> None:
    code = KafkaError.REQUEST_TIMED_OUT
    assert classify(KafkaError(code, retriable=True)) is ErrorKind.TRANSIENT
    assert classify(KafkaError(code)) is ErrorKind.FATAL


def test_the_member_id_is_empty_outside_a_group() -> None:
    assert member_id(b"CGMDv2:\x01\x00\x00\x00group\x00member-1\x00\x01") == b"member-1"
    assert member_id(b"CGMDv2:\xff\xff\xff\xffgroup\x00\x00\x01") == b""


def test_a_membership_in_an_unknown_form_is_an_error() -> None:
    with pytest.raises(ConsumerFailed, match="unknown form"):
        member_id(b"CGMDv9:whatever")

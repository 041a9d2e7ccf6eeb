"""What the client's errors mean for a consumer."""

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
def test_an_error_means_what_the_table_says(code: int, expected: ErrorKind) -> None:
    assert classify(KafkaError(code)) is expected


def test_what_the_client_calls_fatal_is_fatal() -> None:
    assert classify(KafkaError(KafkaError._TRANSPORT, fatal=True)) is ErrorKind.FATAL


def test_an_unknown_error_passes_only_if_the_client_may_try_again() -> None:
    code = KafkaError.REQUEST_TIMED_OUT
    assert classify(KafkaError(code, retriable=True)) is ErrorKind.TRANSIENT
    assert classify(KafkaError(code)) is ErrorKind.FATAL


def test_a_member_is_told_from_no_member() -> None:
    assert member_id(b"CGMDv2:\x01\x00\x00\x00group\x00member-1\x00\x01") == b"member-1"
    assert member_id(b"CGMDv2:\xff\xff\xff\xffgroup\x00\x00\x01") == b""


def test_a_membership_in_an_unknown_form_is_no_proof_of_anything() -> None:
    with pytest.raises(ConsumerFailed, match="unknown form"):
        member_id(b"CGMDv9:whatever")

"""Which errors a consumer waits out, how long they have lasted, and which end it."""

import pytest
from confluent_kafka import KafkaError

from infra.kafka.broker_trouble import UNKNOWN_TOPIC_GRACE_S, BrokerTrouble
from infra.kafka.errors import ConsumerFailed, PositionLost

AWAY = KafkaError(KafkaError._ALL_BROKERS_DOWN)
UNKNOWN_TOPIC = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def trouble(clock: Clock) -> BrokerTrouble:
    return BrokerTrouble(clock=clock)


def test_trouble_lasts_from_the_first_error_to_the_first_success(
    trouble: BrokerTrouble, clock: Clock
) -> None:
    assert (trouble.present, trouble.seconds) == (False, 0.0)
    trouble.observe(AWAY)
    clock.now_s += 2
    trouble.observe(AWAY)
    clock.now_s += 3
    assert (trouble.present, trouble.seconds) == (True, 5.0)

    trouble.end()
    assert (trouble.present, trouble.seconds) == (False, 0.0)


def test_the_end_of_a_partition_is_no_error(trouble: BrokerTrouble) -> None:
    trouble.observe(KafkaError(KafkaError._PARTITION_EOF))

    assert not trouble.present


def test_a_topic_may_be_unknown_for_a_while_after_the_start(
    trouble: BrokerTrouble, clock: Clock
) -> None:
    trouble.observe(UNKNOWN_TOPIC)
    clock.now_s += UNKNOWN_TOPIC_GRACE_S + 1
    with pytest.raises(ConsumerFailed):
        trouble.observe(UNKNOWN_TOPIC)


def test_a_lost_position_and_a_fatal_error_end_the_consumer(trouble: BrokerTrouble) -> None:
    with pytest.raises(PositionLost):
        trouble.observe(KafkaError(KafkaError.OFFSET_OUT_OF_RANGE))
    with pytest.raises(ConsumerFailed):
        trouble.observe(KafkaError(KafkaError._TRANSPORT, fatal=True))

"""Topics, consumers and their positions on a real broker."""

import time

import pytest
from confluent_kafka import Producer

from infra.kafka.admin import TopicSpec, end_offsets, ensure_topics, first_offsets, offsets_at
from infra.kafka.config import producer_config
from infra.kafka.errors import (
    KafkaFailed,
    PositionLost,
)
from infra.kafka.observers import end_observer, group_positions
from infra.kafka.partitions import Partition, has_reached
from infra.kafka.topic_reader import read_all
from infra.kafka.transactions import ProducerRecord
from infra.settings import KafkaSettings
from tests.support.kafka_clients import a_consumer, a_producer, copy_all, poll_until
from tests.support.servers import free_port
from tests.support.topics import committed, feed, new_topics, values
from tests.support.waiting import wait_until


def test_topics_are_created_once_and_never_changed(kafka: KafkaSettings) -> None:
    (topic,) = new_topics(kafka, "made", partitions=3)

    assert ensure_topics(kafka, [TopicSpec(name=topic, partitions=3)]) == []
    with pytest.raises(KafkaFailed, match="3 partitions, not 5"):
        ensure_topics(kafka, [TopicSpec(name=topic, partitions=5)])


def test_a_missing_topic_is_named(kafka: KafkaSettings) -> None:
    with pytest.raises(KafkaFailed, match="no-such-topic"):
        end_offsets(kafka, ["no-such-topic"])


def test_a_record_arrives_as_it_was_sent(kafka: KafkaSettings) -> None:
    (topic,) = new_topics(kafka, "whole")
    with a_producer(kafka, topic) as producer:
        producer.send_all(
            [
                ProducerRecord(
                    topic=topic,
                    key=b"key",
                    value=b"value",
                    headers=[("schema", b"x/1")],
                    timestamp_ms=1_356_998_400_000,
                    partition=2,
                )
            ]
        )

    (message,) = committed(kafka, topic)
    assert (message.key(), message.value(), message.partition()) == (b"key", b"value", 2)
    assert message.headers() == [("schema", b"x/1")]
    assert message.timestamp()[1] == 1_356_998_400_000


def test_the_offset_at_a_time_is_that_of_the_first_record_since_or_the_end(
    kafka: KafkaSettings,
) -> None:
    (topic,) = new_topics(kafka, "timed", partitions=2)
    with a_producer(kafka, topic) as producer:
        producer.send_all(
            [
                ProducerRecord(topic=topic, value=b"x", timestamp_ms=at_ms, partition=0)
                for at_ms in (1_000, 2_000, 3_000)
            ]
        )
    end = end_offsets(kafka, [topic])[Partition(topic, 0)]
    counts = {
        time_us: offsets_at(kafka, [topic], time_us)[Partition(topic, 0)]
        for time_us in (1_000_000, 1_000_001, 2_000_000, 3_000_000, 3_000_001)
    }
    last = counts.pop(3_000_001)
    assert counts == {1_000_000: 0, 1_000_001: 1, 2_000_000: 1, 3_000_000: 2}
    assert last in (3, end)  # the mark of the transaction has an offset and a time of its own
    assert offsets_at(kafka, [topic], 5)[Partition(topic, 1)] == 0


def test_a_key_goes_to_the_partition_that_java_clients_choose(kafka: KafkaSettings) -> None:
    (topic,) = new_topics(kafka, "keyed")
    with a_producer(kafka, topic) as producer:
        producer.send_all([ProducerRecord(topic=topic, key=k, value=k) for k in (b"foobar", b"21")])

    # murmur2 of these keys is given in Kafka's own tests: -790332482 and -973932308
    expected = {k: (h & 0x7FFFFFFF) % 4 for k, h in ((b"foobar", -790332482), (b"21", -973932308))}
    assert {m.key(): m.partition() for m in committed(kafka, topic)} == expected


def test_a_consumer_that_read_everything_is_positioned_past_the_transaction_markers(
    kafka: KafkaSettings,
) -> None:
    source, target = new_topics(kafka, "marked", "copied")
    with a_producer(kafka, source) as feeder:
        for n in range(3):
            feeder.send_all([ProducerRecord(topic=source, value=b"%d" % n, partition=n)])
    with a_consumer(kafka, source) as consumer, a_producer(kafka, target) as producer:
        ends = {Partition(source, n): 2 for n in range(3)}  # a record and a marker
        wait_until(
            lambda: (
                bool(copy_all(consumer, producer, target) or consumer.positions)
                and has_reached(consumer.positions, ends)
            ),
            what="all is read",
        )
        wait_until(
            lambda: group_positions(kafka, f"group-of-{source}") == ends, what="all is committed"
        )
        assert end_offsets(kafka, [source]) == {**ends, Partition(source, 3): 0}
    assert values(kafka, target) == [b"0", b"1", b"2"]


def test_the_end_observer_counts_uncommitted_records_and_transaction_markers(
    kafka: KafkaSettings,
) -> None:
    (topic,) = new_topics(kafka, "watched", partitions=2)
    partitions = [Partition(topic, n) for n in range(2)]
    producer = Producer(producer_config(kafka, transactional_id=f"id-of-{topic}"))
    producer.init_transactions()
    with end_observer(kafka, partitions) as ends:
        assert ends() == {partitions[0]: 0, partitions[1]: 0} == end_offsets(kafka, [topic])
        producer.begin_transaction()
        producer.produce(topic, b"open", partition=1)
        producer.flush()
        assert ends() == {partitions[0]: 0, partitions[1]: 1}
        producer.commit_transaction()
        wait_until(
            lambda: ends() == {partitions[0]: 0, partitions[1]: 2}, what="the marker is visible"
        )
        assert ends() == end_offsets(kafka, [topic])


def test_the_end_observer_fails_within_its_limit_when_no_broker_answers() -> None:
    nowhere = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}")
    with (
        end_observer(nowhere, [Partition("any", 0)], limit_s=0.5) as ends,
        pytest.raises(KafkaFailed, match="cannot read end offsets"),
    ):
        ends()


def test_one_record_is_returned_without_waiting_for_a_batch(kafka: KafkaSettings) -> None:
    (topic,) = new_topics(kafka, "quick")
    with a_consumer(kafka, topic) as consumer:
        poll_until(consumer, lambda _: bool(consumer.positions))
        waits = []
        for n in range(5):
            feed(kafka, topic, [b"%d" % n])
            begun = time.monotonic()
            poll_until(consumer, lambda messages: len(messages) == 1)
            waits.append(time.monotonic() - begun)
    assert min(waits) < 0.2  # `consume(500, 1.0)` would take its whole second


def test_partitions_start_where_the_store_says(kafka: KafkaSettings) -> None:
    (topic,) = new_topics(kafka, "stored", partitions=2)
    for partition in (0, 1):
        feed(kafka, topic, [b"%d" % n for n in range(10)], partition=partition)

    with a_consumer(kafka, topic, start_positions=lambda _: {Partition(topic, 0): 7}) as consumer:
        messages = poll_until(consumer, lambda messages: len(messages) >= 13)

    offsets = sorted((m.partition(), m.offset()) for m in messages)
    assert offsets == [(0, n) for n in range(7, 10)] + [(1, n) for n in range(10)]


def test_a_position_beyond_the_end_is_refused(kafka: KafkaSettings) -> None:
    (topic,) = new_topics(kafka, "beyond", partitions=1)
    feed(kafka, topic, [b"1"])
    with (
        a_consumer(
            kafka, topic, start_positions=lambda assigned: dict.fromkeys(assigned, 5)
        ) as consumer,
        pytest.raises(PositionLost, match="holds \\[0, 1\\), not the position 5"),
    ):
        poll_until(consumer, bool, limit_s=15)


def test_a_paused_member_stays_in_the_group_and_misses_nothing(kafka: KafkaSettings) -> None:
    (topic,) = new_topics(kafka, "paused")
    feed(kafka, topic, [b"%d" % n for n in range(50)])
    with a_consumer(kafka, topic) as consumer:
        poll_until(consumer, lambda _: len(consumer.positions) == 4, advance=False)
        consumer.pause()
        owned = consumer.owned
        for _ in range(10):
            assert consumer.poll(500, 0.05) == []
        assert consumer.joined
        assert consumer.owned == owned
        consumer.resume()
        messages = poll_until(consumer, lambda messages: len(messages) >= 50)
    assert len({m.value() for m in messages}) == len(messages) == 50


def test_reading_whole_topics_stops_at_their_ends(kafka: KafkaSettings) -> None:
    filled, empty = new_topics(kafka, "read", "empty")
    with a_producer(kafka, filled) as producer:
        producer.send_all([ProducerRecord(topic=filled, value=b"%d" % n) for n in range(100)])
    feed(kafka, filled, [b"after"])

    assert len(list(read_all(kafka, [filled, empty]))) == 101
    assert set(first_offsets(kafka, [empty]).values()) == {0}
    start = end_offsets(kafka, [filled])
    feed(kafka, filled, [b"new"])
    assert [m.value() for m in read_all(kafka, [filled], start=start)] == [b"new"]

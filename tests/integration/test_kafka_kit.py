"""Topics, consumers and offsets on a real broker."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from infra.kafka.admin import TopicSpec, end_offsets, ensure_topics, first_offsets
from infra.kafka.config import producer_config
from infra.kafka.consumer import GroupConsumer, StartPositions
from infra.kafka.errors import (
    Fenced,
    KafkaFailed,
    PositionLost,
    TooLarge,
    TransactionAborted,
    TransactionUnclear,
)
from infra.kafka.message import Message
from infra.kafka.observers import end_observer, group_positions
from infra.kafka.partitions import Partition, has_reached
from infra.kafka.topic_reader import read_all
from infra.kafka.transactions import ProducerRecord, TransactionalProducer
from infra.settings import KafkaSettings
from tests.support.servers import free_port
from tests.support.topics import committed, feed, new_topics, values
from tests.support.waiting import wait_until


@contextmanager
def a_consumer(
    kafka: KafkaSettings,
    topic: str,
    *,
    instance: str = "0",
    start_positions: StartPositions | None = None,
) -> Iterator[GroupConsumer]:
    consumer = GroupConsumer(
        kafka,
        group=f"group-of-{topic}",
        instance=instance,
        topics=[topic],
        start_positions=start_positions,
    )
    yield consumer
    consumer.close()


@contextmanager
def a_producer(
    kafka: KafkaSettings, name: str, *, first_client: type[Producer] = Producer
) -> Iterator[TransactionalProducer]:
    """A producer; `first_client` is the client that it begins with, before any rebuild."""
    classes = iter([first_client])

    def make_client(config: dict[str, Any]) -> Producer:
        return next(classes, Producer)(config)

    producer = TransactionalProducer(
        kafka, transactional_id=f"id-of-{name}", make_client=make_client
    )
    yield producer
    producer.close()


def poll_until(
    consumer: GroupConsumer,
    enough: Callable[[list[Message]], bool],
    *,
    advance: bool = True,
    limit_s: float = 30.0,
) -> list[Message]:
    """Poll until the messages are enough; fail when they are not within the limit."""
    messages: list[Message] = []

    def polled_enough() -> bool:
        if enough(messages):
            return True
        messages.extend(consumer.poll(500, 0.1))
        if advance:
            consumer.advance(consumer.taken)
        return enough(messages)

    wait_until(polled_enough, what="enough records have come", limit_s=limit_s, pause_s=0)
    return messages


def copy_all(
    consumer: GroupConsumer, producer: TransactionalProducer, target: str
) -> list[Message]:
    """One round of consume, produce and commit."""
    messages = consumer.poll(200, 0.1)
    if consumer.taken:
        records = [ProducerRecord(topic=target, key=m.key(), value=m.value()) for m in messages]
        producer.send_all(records, offsets=consumer.taken, consumer=consumer)
        consumer.advance(consumer.taken)
    return messages


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
        pytest.raises(KafkaFailed, match="cannot ask for the ends"),
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


def test_an_aborted_transaction_is_invisible_and_its_records_are_read_again(
    kafka: KafkaSettings,
) -> None:
    source, target = new_topics(kafka, "again", "aborted")
    feed(kafka, source, [b"a", b"b"], partition=0)
    with a_consumer(kafka, source) as consumer, a_producer(kafka, target) as producer:
        polled = poll_until(consumer, lambda messages: len(messages) == 2, advance=False)
        too_large = [
            ProducerRecord(topic=target, value=v) for v in (b"small", os.urandom(1_500_000))
        ]
        with pytest.raises(TooLarge):
            producer.send_all(too_large, offsets=consumer.taken, consumer=consumer)
        assert values(kafka, target) == []
        assert group_positions(kafka, f"group-of-{source}") == {}

        consumer.rewind()
        polled_again = poll_until(consumer, lambda messages: len(messages) == 2, advance=False)
        assert [m.offset() for m in polled_again] == [m.offset() for m in polled]
        producer.send_all(
            [ProducerRecord(topic=target, value=m.value()) for m in polled_again],
            offsets=consumer.taken,
            consumer=consumer,
        )
    assert values(kafka, target) == [b"a", b"b"]


def test_a_later_producer_of_the_same_name_ends_the_earlier_one(kafka: KafkaSettings) -> None:
    (topic,) = new_topics(kafka, "twins")
    with a_producer(kafka, topic) as earlier, a_producer(kafka, topic) as later:
        earlier.send_all([ProducerRecord(topic=topic, value=b"1")])
        later.send_all([ProducerRecord(topic=topic, value=b"2")])
        with pytest.raises(Fenced):
            earlier.send_all([ProducerRecord(topic=topic, value=b"3")])
        later.send_all([ProducerRecord(topic=topic, value=b"4")])
    assert values(kafka, topic) == [b"1", b"2", b"4"]


def test_offsets_of_a_consumer_that_left_the_group_are_refused(kafka: KafkaSettings) -> None:
    source, target = new_topics(kafka, "left", "refused")
    feed(kafka, source, [b"a"])
    clients: list[Consumer] = []

    def make_client(config: dict[str, Any]) -> Consumer:
        clients.append(Consumer(config))
        return clients[0]

    consumer = GroupConsumer(
        kafka, group=source, instance="0", topics=[source], make_client=make_client
    )
    with a_producer(kafka, target) as producer:
        poll_until(consumer, lambda messages: len(messages) == 1, advance=False)
        owned_offsets = consumer.taken
        (client,) = clients
        client.unsubscribe()
        wait_until(lambda: not (client.poll(0.05) or consumer.still_member()), what="it left")
        with pytest.raises(TransactionAborted):
            producer.send_all(
                [ProducerRecord(topic=target, value=b"a")], offsets=owned_offsets, consumer=consumer
            )
    consumer.close()
    assert values(kafka, target) == []
    assert group_positions(kafka, source) == {}


def test_offsets_of_a_consumer_that_never_joined_are_refused(kafka: KafkaSettings) -> None:
    """A broker accepts such offsets: it checks the member only when one is named."""
    source, target = new_topics(kafka, "never", "nothing")
    feed(kafka, source, [b"a"], partition=0)
    nowhere = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}")
    outsider = GroupConsumer(nowhere, group=f"group-of-{source}", instance="late", topics=[source])
    with a_consumer(kafka, source) as member, a_producer(kafka, target) as producer:
        poll_until(member, lambda messages: len(messages) == 1, advance=False)
        outsider.poll(1, 0.0)
        assert not outsider.joined
        with pytest.raises(TransactionAborted):
            producer.send_all(
                [ProducerRecord(topic=target, value=b"a")],
                offsets={Partition(source, 0): 1},
                consumer=outsider,
            )
        outsider.close()
    assert values(kafka, target) == []
    assert group_positions(kafka, f"group-of-{source}") == {}


class RepliesLost(Producer):
    """A producer whose commit gets no reply; `arrives` says whether the broker received it."""

    arrives = True

    def commit_transaction(self, timeout: float = -1) -> None:
        if self.arrives:
            super().commit_transaction(timeout)
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, retriable=True))


class RequestLost(RepliesLost):
    arrives = False

    def commit_transaction(self, timeout: float = -1) -> None:
        self.flush(timeout)
        super().commit_transaction(timeout)


def test_a_commit_whose_reply_was_lost_is_not_repeated(kafka: KafkaSettings) -> None:
    source, target = new_topics(kafka, "unheard", "once")
    feed(kafka, source, [b"a", b"b"])
    with (
        a_consumer(kafka, source) as consumer,
        a_producer(kafka, target, first_client=RepliesLost) as producer,
    ):
        copied: list[Message] = []
        while len(copied) < 2:
            copied += copy_all(consumer, producer, target)
        assert producer.rebuilds == 1
    assert values(kafka, target) == [b"a", b"b"]
    assert len(copied) == 2


def test_a_commit_that_never_arrived_is_aborted_and_reported(kafka: KafkaSettings) -> None:
    source, target = new_topics(kafka, "lost", "undone")
    feed(kafka, source, [b"a"], partition=1)
    with (
        a_consumer(kafka, source) as consumer,
        a_producer(kafka, target, first_client=RequestLost) as producer,
    ):
        messages = poll_until(consumer, lambda messages: len(messages) == 1, advance=False)
        records = [ProducerRecord(topic=target, value=m.value()) for m in messages]
        with pytest.raises(TransactionAborted):
            producer.send_all(records, offsets=consumer.taken, consumer=consumer)
        assert values(kafka, target) == []
        producer.send_all(records, offsets=consumer.taken, consumer=consumer)
    assert values(kafka, target) == [b"a"]


def test_an_unclear_commit_without_offsets_is_reported_as_unclear(kafka: KafkaSettings) -> None:
    (topic,) = new_topics(kafka, "unclear")
    with a_producer(kafka, topic, first_client=RepliesLost) as producer:
        with pytest.raises(TransactionUnclear):
            producer.send_all([ProducerRecord(topic=topic, value=b"1")])
        producer.send_all([ProducerRecord(topic=topic, value=b"2")])
    assert values(kafka, topic) == [b"1", b"2"]


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


def test_members_that_join_and_leave_lose_and_duplicate_nothing(kafka: KafkaSettings) -> None:
    source, target = new_topics(kafka, "storm", "calm")
    sent = 0
    epochs = set()
    with a_consumer(kafka, source) as constant, a_producer(kafka, f"{target}-0") as steady:

        def given_back() -> bool:
            copy_or_rewind(constant, steady, target)
            return len(constant.owned) == 4

        def all_copied() -> bool:
            copy_or_rewind(constant, steady, target)
            return has_reached(group_positions(kafka, f"group-of-{source}"), ends)

        for visit in range(3):
            with (
                a_consumer(kafka, source, instance="guest") as guest,
                a_producer(kafka, f"{target}-1") as unsteady,
            ):

                def shared(
                    guest: GroupConsumer = guest, unsteady: TransactionalProducer = unsteady
                ) -> bool:
                    nonlocal sent
                    feed(kafka, source, [b"%d" % n for n in range(sent, sent + 20)])
                    sent += 20
                    copy_or_rewind(constant, steady, target)
                    copy_or_rewind(guest, unsteady, target)
                    epochs.add(constant.epoch)
                    return len(constant.owned) == len(guest.owned) == 2

                wait_until(shared, what=f"visit {visit}: partitions are shared", pause_s=0)

            wait_until(given_back, what=f"visit {visit}: partitions are given back", pause_s=0)
        ends = end_offsets(kafka, [source])
        wait_until(all_copied, what="everything is copied", pause_s=0)
        assert constant.stale_records == 0
    counts = Counter(values(kafka, target))
    assert len(epochs) >= 4
    assert set(counts) == {b"%d" % n for n in range(sent)}
    assert set(counts.values()) == {1}


def copy_or_rewind(consumer: GroupConsumer, producer: TransactionalProducer, target: str) -> None:
    try:
        copy_all(consumer, producer, target)
    except TransactionAborted:
        consumer.rewind()

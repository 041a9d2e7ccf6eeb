"""Transactions on a real broker: aborted, fenced, refused, or without a reply."""

import os
from collections import Counter
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from infra.kafka.admin import end_offsets
from infra.kafka.consumer import GroupConsumer
from infra.kafka.errors import (
    Fenced,
    TooLarge,
    TransactionAborted,
    TransactionUnclear,
)
from infra.kafka.message import Message
from infra.kafka.observers import group_positions
from infra.kafka.partitions import Partition, has_reached
from infra.kafka.transactions import ProducerRecord, TransactionalProducer
from infra.settings import KafkaSettings
from tests.support.kafka_clients import a_consumer, a_producer, copy_all, poll_until
from tests.support.servers import free_port
from tests.support.topics import feed, new_topics, values
from tests.support.waiting import wait_until


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

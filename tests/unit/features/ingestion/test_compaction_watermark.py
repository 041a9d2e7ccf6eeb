"""The compaction watermark follows the slowest reader, up to a limit."""

from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from features.engine.sorting import UNSET
from features.ingestion.compaction_watermark import CompactionWatermark, ReaderWatch
from infra.clock import HOUR
from infra.kafka.errors import KafkaFailed
from infra.kafka.partitions import Partition, Positions
from tests.support.waiting import wait_until

P0, P1 = Partition("asked", 0), Partition("asked", 1)
NOON = 1_362_139_200_000_000


class Readers:
    """The sent requests, and the positions up to which they are answered."""

    def __init__(self, sent: Positions) -> None:
        self.sent, self.answered = sent, dict[Partition, int]()

    def observe(self, watermark: CompactionWatermark) -> None:
        watermark.observe(ends=lambda: self.sent, answered=lambda: self.answered)


def a_watermark() -> CompactionWatermark:
    return CompactionWatermark(least_us=HOUR, most_us=10 * HOUR)


def test_nothing_is_compacted_before_the_first_event() -> None:
    watermark = a_watermark()
    Readers({}).observe(watermark)
    assert watermark.compacted_through_us(UNSET) == UNSET


def test_with_no_open_request_the_watermark_lags_by_the_minimum() -> None:
    watermark = a_watermark()
    watermark.compacted_through_us(NOON)
    Readers({P0: 0, P1: 0}).observe(watermark)
    assert watermark.compacted_through_us(NOON) == NOON - HOUR


def test_an_open_request_holds_the_watermark_until_it_is_answered() -> None:
    watermark, readers = a_watermark(), Readers({P0: 3, P1: 7})
    watermark.compacted_through_us(NOON)
    readers.observe(watermark)
    assert watermark.compacted_through_us(NOON + 5 * HOUR) == NOON - 5 * HOUR  # the most

    readers.answered = {P0: 3, P1: 6}
    readers.observe(watermark)
    assert watermark.compacted_through_us(NOON + 5 * HOUR) == NOON - 5 * HOUR

    readers.answered = {P0: 3, P1: 7}
    readers.observe(watermark)
    assert watermark.compacted_through_us(NOON + 5 * HOUR) == NOON + 4 * HOUR


def test_the_watermark_follows_the_slowest_reader() -> None:
    watermark, readers = a_watermark(), Readers({P0: 0, P1: 0})
    for hour in range(8):
        readers.sent = {P0: 10 * hour, P1: 10 * hour}
        watermark.compacted_through_us(NOON + hour * HOUR)
        readers.observe(watermark)
    readers.answered = {P0: 70, P1: 45}
    readers.observe(watermark)
    # All requests before the checkpoint of 16:00 are answered, but not all before that of 17:00.
    assert watermark.compacted_through_us(NOON + 7 * HOUR) == NOON + 4 * HOUR - HOUR


def test_a_request_sent_after_an_observation_is_protected_by_it() -> None:
    """Until the next observation, the watermark advances only as far as the last one allows."""
    watermark = a_watermark()
    watermark.compacted_through_us(NOON)
    Readers({P0: 0}).observe(watermark)
    assert watermark.compacted_through_us(NOON + 9 * HOUR) == NOON - HOUR


def test_the_newest_event_is_recorded_before_the_ends_of_the_requests_are_read() -> None:
    """A request sent during the query of the ends may be older than the events of that time."""
    watermark = a_watermark()
    watermark.compacted_through_us(NOON)

    def ends() -> Positions:
        watermark.compacted_through_us(NOON + 3 * HOUR)
        return {P0: 0}

    watermark.observe(ends=ends, answered=dict)
    assert watermark.compacted_through_us(NOON + 3 * HOUR) == NOON - HOUR


def test_a_dead_or_absent_reader_holds_the_watermark_up_to_the_limit() -> None:
    watermark, readers = a_watermark(), Readers({P0: 1})
    for hour in range(100):
        now = NOON + hour * HOUR
        assert watermark.compacted_through_us(now) == now - 10 * HOUR
        readers.observe(watermark)


def test_without_an_observation_the_watermark_lags_by_the_limit() -> None:
    assert a_watermark().compacted_through_us(NOON) == NOON - 10 * HOUR


def test_the_watermark_never_goes_back() -> None:
    watermark, readers = a_watermark(), Readers({P0: 0})
    watermark.compacted_through_us(NOON)
    readers.observe(watermark)
    compacted_through = watermark.compacted_through_us(NOON)
    readers.sent = {P0: 5}
    readers.observe(watermark)
    assert watermark.compacted_through_us(NOON - 3 * HOUR) == compacted_through
    assert watermark.compacted_through_us(NOON + HOUR) == compacted_through

    farthest = watermark.compacted_through_us(NOON + 20 * HOUR)
    assert watermark.compacted_through_us(NOON) == farthest == NOON + 10 * HOUR


def test_a_long_time_without_a_reader_needs_few_checkpoints() -> None:
    watermark, readers = a_watermark(), Readers({P0: 1})
    for second in range(20_000):
        watermark.compacted_through_us(NOON + second * 1_000_000)
        readers.observe(watermark)
    assert watermark.open_checkpoints < 1_100


def test_a_failed_observation_changes_nothing_and_is_repeated() -> None:
    watermark = a_watermark()
    watermark.compacted_through_us(NOON)
    failed = KafkaFailed("no broker")
    replies: Iterator[Positions | KafkaFailed] = iter([failed, failed, {P0: 0}])

    def ends() -> Positions:
        reply = next(replies, {P0: 0})
        if isinstance(reply, KafkaFailed):
            raise reply
        return reply

    with ReaderWatch(
        watermark,
        open_ends=lambda: nullcontext(ends),
        open_answered=lambda: nullcontext(dict),
        seconds=0.01,
    ):
        wait_until(
            lambda: watermark.compacted_through_us(NOON) == NOON - HOUR, what="it observes again"
        )


@pytest.mark.parametrize("most", [0, 30 * 60 * 1_000_000])
def test_the_limit_is_at_least_the_minimum(most: int) -> None:
    watermark = CompactionWatermark(least_us=HOUR, most_us=most)
    assert watermark.compacted_through_us(NOON) == NOON - HOUR

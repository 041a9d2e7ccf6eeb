"""What a consumer last wrote about its sources, read from the ends of its output topics.

A consumer commits its output and its positions in one transaction. So when the group's positions
are gone, the newest source of each partition in the output says how far the consumer was.
"""

from collections.abc import Callable, Collection
from typing import NamedTuple

from infra.kafka.admin import end_offsets, first_offsets
from infra.kafka.message import Message
from infra.kafka.partitions import Partition
from infra.kafka.topic_reader import read_all
from infra.settings import KafkaSettings

FIRST_STEP = 2_000  # offsets of each partition; each further step goes eight times as far back
GROWTH = 8

SourceOf = Callable[[Message], tuple[Partition, int] | None]
"""The partition and the position of the record that an output record is about."""


class Written(NamedTuple):
    """Where a consumer continues after what it wrote, by partition of its source.

    `whole`: no record of the output was deleted, so a partition that is not in `next` has none.
    """

    next: dict[Partition, int]
    whole: bool


def newest_written(
    kafka: KafkaSettings, topic: str, *, source_of: SourceOf, wanted: Collection[Partition]
) -> Written:
    """Read the output backwards, committed records only, until each partition was found.

    Raises:
        KafkaFailed: the topic is not there, or no records come.
    """
    firsts, ends = first_offsets(kafka, [topic]), end_offsets(kafka, [topic])
    whole = not any(firsts.values())
    newest: dict[Partition, int] = {}
    step = FIRST_STEP
    while True:
        start = {p: max(firsts[p], end - step) for p, end in ends.items()}
        for message in read_all(kafka, [topic], start=start):
            source = source_of(message)
            if source is not None and source[0] in wanted:
                newest[source[0]] = max(newest.get(source[0], 0), source[1] + 1)
        if start == firsts or newest.keys() >= set(wanted):
            return Written(newest, whole)
        step *= GROWTH


def newest_of_all(
    kafka: KafkaSettings,
    topics: Collection[str],
    *,
    source_of: SourceOf,
    wanted: Collection[Partition],
) -> Written:
    """`newest_written` of several output topics together."""
    of_topics = [
        newest_written(kafka, topic, source_of=source_of, wanted=wanted) for topic in topics
    ]
    newest: dict[Partition, int] = {}
    for written in of_topics:
        for partition, position in written.next.items():
            newest[partition] = max(newest.get(partition, 0), position)
    return Written(newest, all(written.whole for written in of_topics))

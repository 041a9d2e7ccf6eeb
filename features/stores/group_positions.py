"""Where a consumer group stands, also when the brokers have forgotten it. Pure.

A committed position carries the mark of its log. One without a mark was not committed by this
release: by an older one, or by an operator's tool. It is believed only as far as it does not
contradict what the group has written. The brokers delete the positions of a group that had no
member for `offsets.retention.minutes`.
"""

from collections.abc import Callable, Collection, Mapping

from features.stores.log_gaps import SinkPosition
from infra.kafka.logs import CommittedPosition, Log, LogOrigin, Origins
from infra.kafka.partitions import Partition
from infra.kafka.written import Written

ReadWritten = Callable[[Collection[Partition]], Written]
"""What the group last wrote to its output topic, about these partitions."""


def group_positions_of(
    sink: str,
    logs: Mapping[Partition, Log],
    commits: Mapping[Partition, CommittedPosition],
    noted: Origins,
    *,
    written: ReadWritten,
    sparse: bool = False,
) -> dict[Partition, SinkPosition]:
    """Where the group stands in each of the logs; partitions that it never read are left out.

    `noted`: the logs that the stores have noted. What has no mark is from those.
    `sparse`: it writes about some records only, so it may have read further than it wrote.
    """
    positions, doubtful = {}, []
    for partition, log in logs.items():
        commit = commits.get(partition)
        origin = LogOrigin.of_mark(commit.mark) if commit is not None else None
        if commit is not None and origin is not None:
            at = commit.offset + origin.base
            positions[partition] = SinkPosition(sink=sink, position=at, origin=origin)
        elif commit is not None or log.first < log.end:
            doubtful.append(partition)  # in an empty log nothing can be read twice
    if doubtful:
        last = written(doubtful)
        for partition in doubtful:
            origin, log = noted.get(partition), logs[partition]
            base = 0 if origin is None else origin.base
            position = _unmarked(last, partition, commits.get(partition), base)
            if position is not None:
                is_of_log = origin is None or origin.topic_id == log.topic_id
                if sparse and is_of_log and partition not in commits:
                    position = max(position, log.first + base)
                positions[partition] = SinkPosition(sink=sink, position=position, origin=origin)
            elif not last.whole:
                positions[partition] = SinkPosition(sink=sink, position=None)
    return positions


def _unmarked(
    written: Written, partition: Partition, commit: CommittedPosition | None, base: int
) -> int | None:
    """The position of a partition whose commit is missing, or has no mark."""
    known = [written.next[partition]] if partition in written.next else []
    if commit is not None:
        known.append(commit.offset + base)
    return max(known, default=None)

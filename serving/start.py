"""Where serving starts: after the newest request that has an outcome, never before it."""

from collections.abc import Callable, Collection

from features.stores.group_positions import ReadWritten, group_positions_of
from features.stores.log_gaps import (
    ONLINE,
    SERVING,
    Gap,
    SinkPosition,
    current_origin,
    gap_of,
    raise_if_lost,
)
from infra.kafka.consumer import GroupConsumer
from infra.kafka.logs import Log, LogOrigin, Logs, Origins
from infra.kafka.partitions import Partition, Positions


def start_positions(
    partitions: Collection[Partition],
    *,
    consumer: GroupConsumer,
    noted: Origins,
    read_logs: Callable[[], Logs],
    written: ReadWritten,
) -> Positions:
    """The stored position at which each partition starts.

    `noted`: the logs that the online store has read. The consumer gets the logs of the partitions.

    Raises:
        PositionLost: requests were lost, or it cannot be found out which ones have an outcome.
        KafkaFailed: the brokers do not respond.
    """
    every_log = read_logs()
    logs = {p: every_log[p] for p in partitions}
    origins = {p: _origin(log, noted.get(p)) for p, log in logs.items()}
    commits = consumer.commits(partitions)
    found = group_positions_of(SERVING, logs, commits, origins, written=written)
    # Another member may have read on since the ends were read.
    raise_if_lost(_gaps(logs, noted, found) and _gaps(read_logs(), noted, found))
    consumer.origins = {**consumer.origins, **origins}
    starts = {p: log.first + origins[p].base for p, log in logs.items()}
    return starts | {p: s.position for p, s in found.items() if s.position is not None}


def _origin(log: Log, noted: LogOrigin | None) -> LogOrigin:
    """The origin of positions in this log, as the online store has noted it."""
    return current_origin(log, [SinkPosition(sink=ONLINE, position=None, origin=noted)])


def _gaps(logs: Logs, noted: Origins, found: dict[Partition, SinkPosition]) -> list[Gap]:
    gaps = []
    for partition, position in found.items():
        origin = noted.get(partition)
        at = (
            position
            if position.origin
            else SinkPosition(sink=SERVING, position=position.position, origin=origin)
        )
        gap = gap_of(partition, logs[partition], [at], current=_origin(logs[partition], origin))
        if gap is not None:
            gaps.append(gap)
    return gaps

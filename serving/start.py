"""Where serving starts: after the newest request that has an outcome, never before it."""

from collections.abc import Callable, Collection

from features.stores.group_positions import ReadWritten, group_positions_of
from features.stores.log_gaps import SERVING, current_origin, find_gaps, raise_if_lost
from infra.kafka.consumer import GroupConsumer
from infra.kafka.logs import Logs, Origins
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
    positions = group_positions_of(
        SERVING, logs, consumer.commits(partitions), noted, written=written
    )
    sinks = {p: [position] for p, position in positions.items()}
    if find_gaps(logs, sinks, noted):  # another member may have read on since
        now = read_logs()
        raise_if_lost(find_gaps({p: now[p] for p in partitions}, sinks, noted))
    origins = {p: current_origin(log, sinks.get(p, ()), noted.get(p)) for p, log in logs.items()}
    consumer.origins = {**consumer.origins, **origins}
    starts = {p: log.first + origins[p].base for p, log in logs.items()}
    return starts | {p: s.position for p, s in positions.items() if s.position is not None}

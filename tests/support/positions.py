"""Where a group and the ends of topics stand, for a test that waits and asks again and again.

The connection is kept. To open one for each answer costs the test and the broker ten times the
answer itself, and the processes that the test waits for run on the same machine.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack

from infra.kafka.errors import KafkaFailed
from infra.kafka.observers import end_observer, group_observer
from infra.kafka.partitions import Partition, Positions
from infra.settings import KafkaSettings

Ask = Callable[[], Positions]


class _Connections:
    """Those to the brokers that were asked last; a test has one broker at a time."""

    def __init__(self) -> None:
        self._kafka: KafkaSettings | None = None
        self._opened = ExitStack()
        self._by_key: dict[object, Ask] = {}

    def get(
        self, kafka: KafkaSettings, key: object, connect: Callable[[], AbstractContextManager[Ask]]
    ) -> Ask:
        """The connection of that key; opened at the first call."""
        if kafka != self._kafka:
            self._opened.close()
            self._kafka, self._by_key = kafka, {}
        if key not in self._by_key:
            self._by_key[key] = self._opened.enter_context(connect())
        return self._by_key[key]


_CONNECTIONS = _Connections()


def group_positions(kafka: KafkaSettings, group: str) -> Positions:
    """As `infra.kafka.observers.group_positions`."""
    return _CONNECTIONS.get(kafka, group, lambda: group_observer(kafka, group))()


def ends_of(kafka: KafkaSettings, partitions: Iterable[Partition]) -> Positions:
    """The end of each of these partitions.

    Raises:
        KafkaFailed: no response, or a partition is not there.
    """
    wanted = frozenset(partitions)
    ends = _CONNECTIONS.get(kafka, wanted, lambda: end_observer(kafka, wanted))()
    if missing := wanted - ends.keys():
        raise KafkaFailed(f"no end of {sorted(missing)}")
    return ends

"""A member of a consumer group that keeps its own positions."""

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import cast

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from infra.kafka.config import OPERATION_TIMEOUT_S, consumer_config
from infra.kafka.errors import ConsumerFailed, ErrorKind, PositionLost, classify, on_client_error
from infra.kafka.message import ClientError, Message, partition_of
from infra.kafka.partitions import Partition, Positions
from infra.kafka.retry import retry_transient
from infra.settings import KafkaSettings

log = structlog.get_logger()

LINGER_S = 0.005  # how long a batch that is not full waits for more
UNKNOWN_TOPIC_GRACE_S = 60.0
BROKERS_AWAY_S = 30.0
_MAGIC = b"CGMDv2:"

StartPositions = Callable[[Collection[Partition]], Positions]


class GroupConsumer:
    """Takes batches of records of the partitions that the group gives us.

    Whoever uses it works through a batch, makes the result durable together with `taken`, and
    then calls `advance(taken)`; or calls `rewind()` and gets the records again.

    `start_positions` says where newly given partitions start; what it leaves out, and everything
    without it, starts at the position that the group committed, or at the beginning.

    One thread uses it.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        *,
        group: str,
        instance: str,
        topics: Sequence[str],
        start_positions: StartPositions | None = None,
        linger_s: float = LINGER_S,
    ) -> None:
        self.epoch = 0
        self.stale_records = 0  # of partitions that are not ours, or done already
        self._start_positions = start_positions
        self._linger_s = linger_s
        self._owned: frozenset[Partition] = frozenset()
        self._next: dict[Partition, int] = {}  # of the owned partitions, once they are known
        self._unsought: set[Partition] = set()  # known, but the client reads from elsewhere
        self._taken: dict[Partition, int] = {}
        self._metadata = b""
        self._paused = False
        self._last_batch_was_full = False
        self._trouble_since: float | None = None
        self._started = time.monotonic()
        config = consumer_config(kafka, group=group, instance=instance)
        self._consumer = Consumer({**config, "error_cb": self._on_error})
        # Without `on_lost` the client would call `on_revoke` for lost partitions too.
        self._consumer.subscribe(
            list(topics),
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_revoke,
        )

    @property
    def owned(self) -> frozenset[Partition]:
        """The partitions that the group has given us."""
        return self._owned

    @property
    def positions(self) -> Positions:
        """The next offset of each owned partition that is placed: what lies below it is done."""
        return dict(self._next)

    @property
    def taken(self) -> Positions:
        """Where the partitions stand once the last batch is done.

        A partition may stand further on without any record: the markers of transactions take
        offsets too. Committing these positions makes the lag zero at the end of a topic.
        """
        return {p: o for p, o in self._taken.items() if p in self._owned}

    @property
    def joined(self) -> bool:
        """Whether the group counted us as a member at the last poll, with partitions or without.

        It, `owned`, `positions` and `trouble_s` may be read from any thread.
        """
        return bool(self._metadata) and bool(member_id(self._metadata))

    @property
    def trouble_s(self) -> float:
        """For how long the brokers have given nothing but errors; 0 when all is well."""
        return time.monotonic() - self._trouble_since if self._trouble_since else 0.0

    def poll(self, max_records: int, idle_s: float) -> list[Message]:
        """The next records, at most `max_records`; waits up to `idle_s` for the first.

        Only records of owned partitions at or above our next offset, in order by partition.

        Raises:
            ConsumerFailed: the client cannot go on.
            PositionLost: a position is outside its partition.
        """
        self._place()
        found = self._consume(max_records, idle_s)
        records = self._sort_out(found)
        if self._trouble_since and not found:
            self._look_for_brokers()
        self._metadata = self._current_metadata()
        self._last_batch_was_full = len(found) >= max_records
        return records

    def advance(self, positions: Positions) -> None:
        """What lies below these positions is done and durable."""
        for partition, offset in positions.items():
            if partition in self._owned:
                self._next[partition] = offset

    def rewind(self) -> None:
        """Read again from the last positions that were advanced to."""
        self._taken = {}
        self._unsought = set(self._next)

    def forget_positions(self) -> None:
        """Ask anew where the owned partitions start, before the next batch."""
        self._next = {}
        self.rewind()

    def pause(self) -> None:
        """Take no records until `resume`, but stay in the group: go on calling `poll`."""
        self._paused = True
        self._consumer.pause([_client_form(p) for p in self._owned])
        self.rewind()

    def resume(self) -> None:
        """Take records again."""
        self._paused = False
        self._consumer.resume([_client_form(p) for p in self._owned])
        self.rewind()

    def group_metadata(self) -> bytes:
        """Our membership when the last batch was taken. A commit has to show it."""
        return self._metadata

    def still_member(self) -> bool:
        """Whether we are the member, of the generation, that took the last batch.

        A broker accepts offsets from someone who names no member at all, so an empty member is
        refused here.
        """
        return self.joined and self._metadata == self._current_metadata()

    def committed(self, partitions: Iterable[Partition]) -> Positions:
        """The group's committed positions; what has none is left out.

        Raises:
            KafkaException: no answer, or a transaction over these positions is still open.
        """
        asked = [_client_form(p) for p in partitions]
        answer = retry_transient(lambda left_s: self._consumer.committed(asked, timeout=left_s))
        for found in answer:
            if found.error is not None:
                raise KafkaException(found.error)
        return {Partition(p.topic, p.partition): p.offset for p in answer if p.offset >= 0}

    def close(self) -> None:
        """Leave the group, so that the others need not wait for the session to end."""
        self._consumer.close()

    # -- where partitions start

    def _place(self) -> None:
        unknown = self._owned - self._next.keys()
        try:
            if unknown:
                self._next |= self._starts(unknown)
                self._unsought |= unknown
        except KafkaException as error:
            self._note(error.args[0])  # no records of them yet; asked again at the next poll
        for partition in tuple(self._unsought):
            self._seek(partition)

    def _starts(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Where they start, checked against what the partitions hold."""
        starts = dict(self._start_positions(partitions)) if self._start_positions else {}
        rest = [p for p in partitions if p not in starts]
        if rest:
            starts |= self.committed(rest)
        for partition in partitions:
            first, end = self._consumer.get_watermark_offsets(
                _client_form(partition), timeout=OPERATION_TIMEOUT_S
            )
            start = starts.setdefault(partition, first)
            if not first <= start <= end:
                raise PositionLost(f"{partition} holds [{first}, {end}), not the position {start}")
        return {p: starts[p] for p in partitions}

    def _seek(self, partition: Partition) -> None:
        """Go to our next offset; tried again at the next poll while the client is not ready."""
        try:
            if self._paused:
                self._consumer.pause([_client_form(partition)])
            self._consumer.seek(_client_form(partition, self._next[partition]))
            self._unsought.discard(partition)
        except KafkaException as error:
            log.debug("seek_delayed", partition=partition, code=error.args[0].name())

    # -- taking records

    def _consume(self, max_records: int, idle_s: float) -> list[Message]:
        """One blocking wait for the first record, a short one for the rest.

        `consume(n, timeout)` alone waits its whole timeout for a batch to fill.
        """
        try:
            first = self._consumer.poll(idle_s)
            if first is None:
                return []
            wait_s = 0.0 if self._last_batch_was_full else self._linger_s
            rest = self._consumer.consume(max(max_records - 1, 1), wait_s)
            return cast(list[Message], [first, *rest])
        except KafkaException as error:
            # The client has dropped the records of this call, and yet moved on.
            self.rewind()
            self._note(error.args[0])
            return []

    def _sort_out(self, found: Sequence[Message]) -> list[Message]:
        self._taken = {}
        records = []
        for message in found:
            error = message.error()
            if error is None:
                if self._take(message, message.offset() + 1):
                    records.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                self._take(message, message.offset())
            else:
                self._note(error)
        if self._taken:
            self._trouble_since = None
        return records

    def _take(self, message: Message, next_offset: int) -> bool:
        """Whether it is ours, and new."""
        partition = partition_of(message)
        if partition not in self._next or partition in self._unsought or self._paused:
            return False  # not placed yet: it will be read again from its start
        reached = self._taken.get(partition, self._next[partition])
        if next_offset <= reached:
            self.stale_records += message.error() is None
            return False
        self._taken[partition] = next_offset
        return True

    def _note(self, error: ClientError) -> None:
        kind = classify(error)
        if kind is ErrorKind.POSITION_LOST:
            raise PositionLost(f"a position is outside its partition: {error.str()}")
        waited_s = time.monotonic() - self._started
        if kind is ErrorKind.FATAL or (
            kind is ErrorKind.UNKNOWN_TOPIC and waited_s > UNKNOWN_TOPIC_GRACE_S
        ):
            raise ConsumerFailed(f"{error.name()}: {error.str()}")
        if kind is not ErrorKind.NOTHING:
            self._note_trouble(error)

    def _note_trouble(self, error: ClientError) -> None:
        log.warning("consumer_trouble", code=error.name(), message=error.str())
        self._trouble_since = self._trouble_since or time.monotonic()

    def _look_for_brokers(self) -> None:
        """An idle topic gives no sign that the brokers are back, so ask for one."""
        try:
            self._consumer.list_topics(timeout=1.0)
            self._trouble_since = None
        except KafkaException as error:
            log.debug("brokers_still_away", code=error.args[0].name())

    def _current_metadata(self) -> bytes:
        # Never from another thread than the one that polls: the client then holds Python's lock
        # while it waits, and the whole process stands still for minutes.
        metadata: bytes = self._consumer.consumer_group_metadata()
        return metadata

    # -- callbacks: a raise in one makes the client lose records, so they only keep books

    def _on_error(self, error: KafkaError) -> None:
        on_client_error(error)
        if error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION):
            self._trouble_since = self._trouble_since or time.monotonic()

    def _on_assign(self, _: Consumer, given: Sequence[TopicPartition]) -> None:
        self._owned |= _partitions(given)
        self.epoch += 1

    def _on_revoke(self, _: Consumer, gone: Sequence[TopicPartition]) -> None:
        partitions = _partitions(gone)
        self._owned -= partitions
        self._unsought -= partitions
        for partition in partitions:
            self._next.pop(partition, None)
        self.epoch += 1


def waiting_for_brokers(consumer: GroupConsumer | None) -> str:
    """Why a process takes no records, as far as the brokers go; "" when they give them."""
    if consumer is None or not consumer.joined:
        return "not in the group yet"
    if consumer.trouble_s > BROKERS_AWAY_S:
        return f"no broker for {consumer.trouble_s:.0f} s"
    return ""


def member_id(metadata: bytes) -> bytes:
    """The member's id in the client's group metadata; empty when it is no member.

    Raises:
        ConsumerFailed: the client library writes it in a form that is not known here.
    """
    if not metadata.startswith(_MAGIC):
        raise ConsumerFailed(
            "the client library's group metadata has an unknown form",
            hint="use a version of confluent-kafka that the lock file names",
        )
    # the magic, the generation in four bytes, then group and member, each ended by a zero byte
    return metadata[len(_MAGIC) + 4 :].split(b"\0")[1]


def _partitions(found: Iterable[TopicPartition]) -> frozenset[Partition]:
    return frozenset(Partition(p.topic, p.partition) for p in found)


def _client_form(partition: Partition, offset: int | None = None) -> TopicPartition:
    if offset is None:
        return TopicPartition(partition.topic, partition.number)
    return TopicPartition(partition.topic, partition.number, offset)

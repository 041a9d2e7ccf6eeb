"""A member of a consumer group that keeps its own positions.

`positions.py` tracks the positions, `broker_trouble.py` classifies errors; here is the client.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, cast

import structlog
from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from infra.kafka.broker_trouble import BrokerTrouble
from infra.kafka.client_partitions import check_position, client_form, partitions_of, read_commits
from infra.kafka.config import OPERATION_TIMEOUT_S, consumer_config
from infra.kafka.errors import ConsumerFailed, ErrorKind, classify, on_client_error
from infra.kafka.logs import CommittedPosition, LogOrigin, Origins, log_offsets, stored_positions
from infra.kafka.membership import member_id
from infra.kafka.message import ClientError, Message, UnreadableMessage, partition_of, size_of
from infra.kafka.partitions import Partition, Positions
from infra.kafka.positions import PartitionPositions
from infra.kafka.shifted import as_stored
from infra.kafka.unreadable import end_of_unreadable, is_of_records
from infra.settings import KafkaSettings

log = structlog.get_logger()

LINGER_S = 0.005  # how long a batch that is not full waits for more
BROKERS_AWAY_S = 30.0
BATCH_BYTES = 8 << 20  # of the records in a batch; one more call may come on top
RECORDS_A_CALL = 250

StartPositions = Callable[[Collection[Partition]], Positions]


class GroupConsumer:
    """Reads batches of records from the partitions that the group assigns to us.

    The caller works through a batch, makes the result durable together with `taken`, and then
    calls `advance(taken)`; or calls `rewind()` and gets the records again.

    `start_positions` says where newly assigned partitions start. Those that it leaves out, and all
    partitions without it, start at the position that the group committed, or at the beginning.

    All positions that come in and go out, and the offsets of records, are stored positions: those
    in the log plus the base of its origin. `origins` has these; the caller keeps it up to date.

    One thread uses it; `owned`, `positions`, `joined` and `trouble_s` may be read from any thread.
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
        make_client: Callable[[dict[str, Any]], Consumer] = Consumer,
    ) -> None:
        self.origins: Origins = {}
        self._kafka = kafka
        self._start_positions = start_positions
        self._linger_s = linger_s
        self._positions = PartitionPositions()  # offsets in the logs
        self._refused: KafkaException | None = None  # in a callback
        self._unreadable_to: dict[Partition, int] = {}
        self._to_check: set[Partition] = set()  # the client could not read at our offset
        self._trouble = BrokerTrouble()
        self._metadata = b""
        self._paused = False
        self._last_batch_was_full = False
        config = consumer_config(kafka, group=group, instance=instance)
        self._is_cooperative = "cooperative" in config["partition.assignment.strategy"]
        self._client = make_client({**config, "error_cb": self._on_error})
        # Without `on_lost` the client would call `on_revoke` for lost partitions too.
        self._client.subscribe(
            list(topics),
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_revoke,
        )

    @property
    def epoch(self) -> int:
        """How often partitions came or went."""
        return self._positions.epoch

    @property
    def stale_records(self) -> int:
        """Records that came again below the position of their partition; must stay 0."""
        return self._positions.stale_records

    @property
    def owned(self) -> frozenset[Partition]:
        """The partitions that the group has assigned to us."""
        return self._positions.owned

    @property
    def positions(self) -> Positions:
        """The next offset of each owned partition that is placed: what lies below it is done."""
        return stored_positions(self._positions.done, self.origins)

    @property
    def taken(self) -> Positions:
        """The positions of the partitions once the last batch is done.

        A partition may stand further on without any record: the markers of transactions take
        offsets too. Committing these positions makes the lag zero at the end of a topic.
        """
        return stored_positions(self._positions.taken, self.origins)

    @property
    def joined(self) -> bool:
        """Whether the group counted us as a member at the last poll, with partitions or without."""
        return bool(self._metadata) and bool(member_id(self._metadata))

    @property
    def trouble_s(self) -> float:
        """For how long the brokers have given nothing but errors; 0 when all is well."""
        return self._trouble.seconds

    def poll(self, max_records: int, idle_s: float) -> list[Message]:
        """The next records, at most `max_records`; waits up to `idle_s` for the first.

        Only records of owned partitions at or above our next offset, in order by partition.

        Raises:
            ConsumerFailed: the client cannot go on.
            PositionLost: a position is outside its partition.
        """
        if self._refused is not None:
            raise ConsumerFailed(f"cannot read new partitions: {self._refused}")
        self._check_positions()
        self._place_new_partitions()
        messages = self._consume(max_records, idle_s)
        records = self._take_new(messages)
        if self._trouble.present and not messages:
            self._probe_brokers()
        self._metadata = self._current_metadata()
        self._last_batch_was_full = len(messages) >= max_records
        return records

    def advance(self, positions: Positions) -> None:
        """Note that what lies below these positions is done and durable."""
        self._positions.advance(log_offsets(positions, self.origins))

    def rewind(self) -> None:
        """Read again from the last positions that were advanced to."""
        self._unreadable_to.clear()
        self._positions.rewind()

    def forget_positions(self) -> None:
        """Look up again where the owned partitions start, before the next batch."""
        self._unreadable_to.clear()
        self._positions.forget()

    def pause(self) -> None:
        """Take no records until `resume`, but stay in the group: go on calling `poll`."""
        self._paused = True
        self._client.pause([client_form(p) for p in self.owned])
        self.rewind()

    def resume(self) -> None:
        """Take records again."""
        self._paused = False
        self._client.resume([client_form(p) for p in self.owned])
        self.rewind()

    def group_metadata(self) -> bytes:
        """Our membership when the last batch was taken. A commit has to show it."""
        return self._metadata

    def still_member(self) -> bool:
        """Whether we are the member, of the generation, that took the last batch.

        A broker accepts offsets from a client that names no member at all, so an empty member is
        refused here.
        """
        return self.joined and self._metadata == self._current_metadata()

    def committed(self, partitions: Iterable[Partition]) -> Positions:
        """The group's committed positions; what has none in the current log is left out.

        Raises:
            KafkaException: no response, or a transaction over these positions is still open.
        """
        commits = self.commits(partitions)
        offsets = {p: c.offset for p, c in commits.items() if c.mark in ("", self._mark(p))}
        return stored_positions(offsets, self.origins)

    def commits(self, partitions: Iterable[Partition]) -> dict[Partition, CommittedPosition]:
        """The offsets that the group has committed, each with the mark of its log.

        Raises:
            KafkaException: see `committed`.
        """
        return read_commits(self._client, partitions)

    def to_commit(self, positions: Positions) -> list[TopicPartition]:
        """The positions as a transaction commits them, each with the mark of its log."""
        return [
            TopicPartition(p.topic, p.number, offset, self._mark(p))
            for p, offset in log_offsets(positions, self.origins).items()
        ]

    def close(self) -> None:
        """Leave the group, so that the others need not wait for the session to end."""
        self._client.close()

    # -- where partitions start

    def _place_new_partitions(self) -> None:
        unplaced = self._positions.unplaced
        try:
            if unplaced:
                self._positions.place(self._starts(unplaced))
        except KafkaException as error:
            self._trouble.observe(error.args[0])  # no records of them yet; next poll tries again
        for partition, offset in self._positions.unsought.items():
            self._seek(partition, offset)

    def _starts(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Where they start, checked against what the partitions hold."""
        given = self._start_positions(partitions) if self._start_positions else {}
        starts = dict(log_offsets(given, self.origins))
        rest = [p for p in partitions if p not in starts]
        if rest:
            starts |= log_offsets(self.committed(rest), self.origins)
        for partition in partitions:
            first, end = self._range(partition)
            check_position(partition, starts.setdefault(partition, first), first, end)
        return {p: starts[p] for p in partitions}

    def _begin_at_end(self, partitions: Collection[Partition]) -> None:
        """Give the client partitions to read, from their ends until we seek.

        Left to itself it would begin at the committed offset, and stop where there is none.
        """
        if self._is_cooperative:
            self._client.incremental_assign([client_form(p, OFFSET_END) for p in partitions])
        else:
            everything = self.owned | frozenset(partitions)
            self._client.assign([client_form(p, OFFSET_END) for p in everything])
            self._positions.rewind()

    def _check_positions(self) -> None:
        """After the client could not read at an offset: is it still there?

        Raises:
            PositionLost: it is not.
            ConsumerFailed: it is, but the client has stopped to read the partition.
        """
        positions = self._positions
        for partition in self._to_check & positions.done.keys():
            try:
                first, end = self._range(partition)
            except KafkaException as error:
                self._trouble.observe(error.args[0])
                return
            check_position(partition, positions.done[partition], first, end)
            raise ConsumerFailed(f"the client has stopped to read {partition}")
        self._to_check.clear()  # what is left was revoked

    def _range(self, partition: Partition) -> tuple[int, int]:
        """The first offset of a partition, and the one after its last."""
        offsets: tuple[int, int] = self._client.get_watermark_offsets(
            client_form(partition), timeout=OPERATION_TIMEOUT_S
        )
        return offsets

    def _mark(self, partition: Partition) -> str:
        origin: LogOrigin | None = self.origins.get(partition)
        return "" if origin is None else origin.mark

    def _seek(self, partition: Partition, offset: int) -> None:
        """Go to our next offset; the next poll tries again while the client is not ready."""
        try:
            if self._paused:
                self._client.pause([client_form(partition)])
            self._client.seek(client_form(partition, offset))
            self._positions.sought(partition)
        except KafkaException as error:
            log.debug("seek_delayed", partition=partition, code=error.args[0].name())

    # -- taking records

    def _consume(self, max_records: int, idle_s: float) -> list[Message]:
        """One blocking wait for the first record, a short one for the rest.

        `consume(n, timeout)` alone waits its whole timeout for a batch to fill.
        """
        try:
            first = cast(Message | None, self._client.poll(idle_s))
            return [] if first is None else [first, *self._consume_rest(first, max_records - 1)]
        except KafkaException as error:
            # The client has dropped the records of this call, but its offsets have moved.
            self.rewind()
            self._trouble.observe(error.args[0])
            return []

    def _consume_rest(self, first: Message, max_records: int) -> list[Message]:
        """More records, in small calls: no more than fit if they are as large as the others."""
        wait_s = 0.0 if self._last_batch_was_full else self._linger_s
        messages: list[Message] = []
        sizes = [size_of(first)]
        while (space := BATCH_BYTES - sum(sizes)) > 0 and len(messages) < max(max_records, 1):
            fitting = 1 + space // max(*sizes, 1)
            wanted = min(RECORDS_A_CALL, fitting, max(max_records, 1) - len(messages))
            more = cast(list[Message], self._client.consume(wanted, wait_s))
            messages += more
            sizes += map(size_of, more)
            if len(more) < wanted:
                break
        return messages

    def _take_new(self, messages: Sequence[Message]) -> list[Message]:
        """Count the messages into the batch; the records among them that are ours and new."""
        positions = self._positions
        positions.begin_batch(paused=self._paused)
        records: list[Message] = []
        for message in messages:
            error = message.error()
            if error is None:
                if positions.take(partition_of(message), message.offset() + 1):
                    records.append(as_stored(message, self.origins))
            else:
                records += self._after_error(error, message)
        if positions.taken:
            self._trouble.end()
        return records

    def _after_error(self, error: ClientError, message: Message) -> list[Message]:
        """Note what the client says instead of records; the records that it cannot read."""
        if error.code() == KafkaError._PARTITION_EOF:
            self._positions.reach(partition_of(message), message.offset())
        elif classify(error) is ErrorKind.POSITION_LOST:
            self._to_check.add(partition_of(message))
        elif is_of_records(error, message):
            if message.offset() >= self._unreadable_to.get(partition_of(message), 0):
                return self._take_unreadable(partition_of(message), why=error.name())
        else:
            self._trouble.observe(error)
        return []

    def _take_unreadable(self, partition: Partition, *, why: str) -> list[Message]:
        """Count the records that the client cannot read; it stays there until we seek."""
        positions = self._positions
        start = positions.reached.get(partition)
        if start is None or partition in positions.unsought:
            return []
        end = end_of_unreadable(self._kafka, partition, start)
        self._unreadable_to[partition] = end  # the client has said it again in the meantime
        log.warning("records_unreadable", partition=partition, offset=start, end=end, why=why)
        records = [UnreadableMessage(partition, n, why=why) for n in range(start, end)]
        for record in records:
            positions.take(partition, record.offset() + 1)
        positions.seek_again(partition)
        return [as_stored(record, self.origins) for record in records]

    def _probe_brokers(self) -> None:
        """An idle topic gives no sign that the brokers are back, so ask for one."""
        try:
            self._client.list_topics(timeout=1.0)
            self._trouble.end()
        except KafkaException as error:
            log.debug("brokers_still_away", code=error.args[0].name())

    def _current_metadata(self) -> bytes:
        # Never from another thread than the one that polls: the client then holds Python's lock
        # while it waits, and the whole process stands still for minutes.
        metadata: bytes = self._client.consumer_group_metadata()
        return metadata

    # -- callbacks: an exception in one makes the client lose records, so they only update state

    def _on_error(self, error: KafkaError) -> None:
        on_client_error(error)
        if error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION):
            self._trouble.begin()

    def _on_assign(self, _: Consumer, partitions: Sequence[TopicPartition]) -> None:
        new = partitions_of(partitions)
        try:
            self._begin_at_end(new)
        except KafkaException as error:
            self._refused = error
        self._positions.assign(new)

    def _on_revoke(self, _: Consumer, partitions: Sequence[TopicPartition]) -> None:
        self._positions.revoke(partitions_of(partitions))


def waiting_for_brokers(consumer: GroupConsumer | None) -> str:
    """Why a process takes no records, as far as the brokers go; "" when they give them."""
    if consumer is None or not consumer.joined:
        return "not in the group yet"
    if consumer.trouble_s > BROKERS_AWAY_S:
        return f"no broker for {consumer.trouble_s:.0f} s"
    return ""

"""A producer whose records become visible all together or not at all.

What the client library leaves to its user, and what this module does about it:

- A request that timed out may still reach the broker and touch the *next* transaction. So a
  producer is never used again after an unclear result: a new one under the same id ends what the
  old one left, and makes every late request of it invalid.
- After a commit without a response, the committed positions show whether it happened.
- Offsets are sent with the membership under which the batch was taken, never with a later one.
"""

from collections.abc import Callable, Sequence
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer
from msgspec import Struct

from infra.kafka.config import producer_config
from infra.kafka.consumer import GroupConsumer
from infra.kafka.errors import (
    FENCED,
    Fenced,
    ProducerFailed,
    TooLarge,
    TransactionAborted,
    TransactionUnclear,
)
from infra.kafka.message import Message, partition_of
from infra.kafka.partitions import Partition, Positions
from infra.kafka.retry import retry_transient
from infra.settings import KafkaSettings

log = structlog.get_logger()


class ProducerRecord(Struct, frozen=True, kw_only=True, gc=False):
    """A record to send. Without a `partition` the key decides, as Java clients do it."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()
    timestamp_ms: int | None = None  # now
    partition: int | None = None


class TransactionalProducer:
    """Sends batches of records, each batch in one transaction, with the offsets it came from."""

    def __init__(
        self,
        kafka: KafkaSettings,
        *,
        transactional_id: str,
        make_client: Callable[[dict[str, Any]], Producer] = Producer,
    ) -> None:
        """Connects nowhere yet.

        Of two processes with one `transactional_id` the later one stays, the earlier one gets
        `Fenced`. `make_client` makes the client's producer from its configuration, again after
        each unclear result.
        """
        self.rebuilds = 0
        self._make_client = make_client
        self._id = transactional_id
        self._config = producer_config(kafka, transactional_id=transactional_id)
        self._producer: Producer | None = None

    def open(self) -> None:
        """Register with the brokers: ends whatever a predecessor under our id left open.

        Raises:
            Fenced: another process registered at the same time.
            ProducerFailed: the brokers do not respond, or refuse.
        """
        producer = self._make_client(self._config)
        try:
            _call(producer.init_transactions)
        except KafkaException as error:
            self._raise_if_fenced(error)
            raise ProducerFailed(f"{self._id}: {_sentence(error)}") from error
        self._producer = producer

    def send_all(
        self,
        records: Sequence[ProducerRecord],
        *,
        offsets: Positions | None = None,
        consumer: GroupConsumer | None = None,
        arrived: dict[Partition, int] | None = None,
    ) -> None:
        """Send the records and commit `offsets` of the consumer's group, or do neither.

        Returns only when it is committed. No callback of the consumer runs in between. `arrived`
        is filled with the offset after the last record of each partition that got some; it costs
        a callback for each record, so pass it only where these positions are waited for.

        Raises:
            TransactionAborted: nothing is visible; rewind the consumer and continue.
            TransactionUnclear: without a consumer it stays unknown; read your own position first.
            Fenced, ProducerFailed: end this process; a new one starts from what is committed.
        """
        if (offsets is None) != (consumer is None):
            raise ValueError("offsets belong to a consumer: give both or neither")
        if self._producer is None:
            self.open()
        producer = self._producer
        assert producer is not None
        try:
            producer.begin_transaction()
            _produce_all(producer, records, arrived)
            if offsets is not None and consumer is not None:
                self._send_offsets(producer, offsets, consumer)
        except (KafkaException, BufferError, _MembershipChanged) as error:
            self._abort(producer, error)
        self._commit(producer, offsets, consumer)
        if arrived is not None:
            producer.poll(0)  # the last delivery reports

    def close(self) -> None:
        """Drop the client; an open transaction ends by its timeout."""
        self._drop()

    def _send_offsets(
        self, producer: Producer, offsets: Positions, consumer: GroupConsumer
    ) -> None:
        if not consumer.still_member() or not offsets.keys() <= consumer.owned:
            raise _MembershipChanged("the group has rebalanced since the batch was taken")
        positions = consumer.to_commit(offsets)
        metadata = consumer.group_metadata()
        _call(lambda left_s: producer.send_offsets_to_transaction(positions, metadata, left_s))

    def _abort(self, producer: Producer, cause: Exception) -> None:
        """Undo what was begun; no commit was requested, so none can happen.

        After an error of the client the producer is not used again, even where the client says that
        an abort is enough: after a failed delivery its next batch may skip sequence numbers.

        Raises:
            TransactionAborted, Fenced: always one of them.
        """
        self._raise_if_fenced(cause)
        if isinstance(cause, KafkaException):
            self._drop()
        else:
            try:
                _call(producer.abort_transaction)
            except KafkaException as error:
                self._raise_if_fenced(error)
                self._drop()
        raise _aborted(cause) from cause

    def _commit(
        self, producer: Producer, offsets: Positions | None, consumer: GroupConsumer | None
    ) -> None:
        try:
            _call(producer.commit_transaction)
        except KafkaException as error:
            self._raise_if_fenced(error)
            if error.args[0].txn_requires_abort():
                self._abort(producer, error)
            self._resolve_unclear_commit(error, offsets, consumer)

    def _resolve_unclear_commit(
        self, cause: KafkaException, offsets: Positions | None, consumer: GroupConsumer | None
    ) -> None:
        """Find out whether a commit without a response happened; return if it did.

        Raises:
            TransactionAborted, TransactionUnclear: it did not, or that stays unknown.
        """
        log.warning("commit_unclear", id=self._id, message=_sentence(cause))
        self._drop()
        self.open()  # returns only after the old transaction has ended, one way or the other
        if offsets is None or consumer is None:
            raise TransactionUnclear(_sentence(cause)) from cause
        try:
            committed = consumer.committed(offsets)
        except KafkaException as error:
            raise ProducerFailed(f"{self._id}: {_sentence(error)}") from error
        if not offsets or any(committed.get(p, -1) < o for p, o in offsets.items()):
            raise TransactionAborted(_sentence(cause)) from cause

    def _drop(self) -> None:
        if self._producer is None:
            return
        self.rebuilds += 1
        self._producer.purge(in_queue=True, in_flight=True, blocking=False)
        self._producer = None

    def _raise_if_fenced(self, error: Exception) -> None:
        if isinstance(error, KafkaException) and error.args[0].code() in FENCED:
            raise Fenced(f"{self._id}: {_sentence(error)}") from error


class _MembershipChanged(Exception):
    """We are no longer the member that took the batch."""


def _produce_all(
    producer: Producer, records: Sequence[ProducerRecord], arrived: dict[Partition, int] | None
) -> None:
    def note(error: KafkaError | None, message: Message) -> None:
        if error is None and arrived is not None:
            partition = partition_of(message)
            arrived[partition] = max(arrived.get(partition, 0), message.offset() + 1)

    # A failed delivery fails the commit: without `arrived` no report is needed.
    report: dict[str, Any] = {} if arrived is None else {"on_delivery": note}
    produce = producer.produce
    for r in records:
        produce(
            r.topic,
            r.value,
            r.key,
            partition=-1 if r.partition is None else r.partition,
            timestamp=r.timestamp_ms or 0,
            headers=list(r.headers),
            **report,
        )
    producer.poll(0)


def _call(call: Callable[[float], None]) -> None:
    """Call the client, again after errors that it allows to be repeated, until one deadline."""
    retry_transient(call, passes=_may_repeat)


def _may_repeat(reason: KafkaError) -> bool:
    """Whether the client allows the same call again.

    Not after a time-out: it has used up the time, and its request may still be on its way.
    """
    return (
        not reason.fatal()
        and not reason.txn_requires_abort()
        and reason.retriable()
        and reason.code() != KafkaError._TIMED_OUT
    )


def _aborted(cause: Exception) -> TransactionAborted:
    if isinstance(cause, KafkaException) and cause.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return TooLarge(_sentence(cause))
    return TransactionAborted(_sentence(cause))


def _sentence(error: Exception) -> str:
    if isinstance(error, KafkaException):
        return f"{error.args[0].name()}: {error.args[0].str()}"
    return str(error)

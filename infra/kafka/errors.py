"""What can go wrong with Kafka, and what each error of the client means for us."""

import time
from enum import Enum, auto

import structlog
from confluent_kafka import KafkaError

from infra.errors import EventideError
from infra.kafka.message import ClientError

log = structlog.get_logger()

SAY_AGAIN_S = 10.0
_last_written: dict[int, float] = {}


class KafkaFailed(EventideError):
    """The root of this package's errors: the work cannot go on with this client."""

    hint = "are the brokers reachable and the topics there? see `eventide status`"


class ConsumerFailed(KafkaFailed):
    """The consumer cannot go on; a new process starts from the committed positions."""


class PositionLost(KafkaFailed):
    """A position is no longer, or not yet, in its partition: events would be skipped or repeated.

    It happens when topics were deleted while a store kept its data, or events passed their
    retention before they were read.
    """

    hint = "topics and stores do not belong together: restore one, or clean both"


class ProducerFailed(KafkaFailed):
    """The producer cannot go on; nothing of the last transaction is known to be committed."""


class Fenced(KafkaFailed):
    """Another process runs under our transactional id, or we slept past the timeout."""

    hint = "give each process its own instance name"
    exit_code = 3  # so that a supervisor can tell it from a crash


class TransactionAborted(EventideError):
    """Nothing of it is visible to anyone. Rewind and go on."""


class TooLarge(TransactionAborted):
    """A record is larger than its topic takes: sending it again cannot help."""


class TransactionUnclear(EventideError):
    """It was committed or not, nobody can say: read your position anew before you go on."""


class Meaning(Enum):
    """What an error means for the one who gets it."""

    NOTHING = auto()  # not an error: the end of a partition, an empty poll
    TRANSIENT = auto()  # the client mends it by itself
    LEFT_GROUP = auto()  # the callbacks tell which partitions are gone
    POSITION_LOST = auto()
    UNKNOWN_TOPIC = auto()  # transient for a while after a start
    FATAL = auto()


def meaning(error: ClientError) -> Meaning:
    """How a consumer takes an error. What is not known to heal is fatal."""
    if error.fatal():
        return Meaning.FATAL
    found = _MEANINGS.get(error.code())
    if found is not None:
        return found
    return Meaning.TRANSIENT if error.retriable() else Meaning.FATAL


def on_client_error(error: KafkaError) -> None:
    """Write down what a client reports beside its calls. Never raises: it runs as a callback.

    A client without brokers reports it many times a second; each kind is written once in a while.
    """
    now = time.monotonic()
    if now - _last_written.get(error.code(), -SAY_AGAIN_S) >= SAY_AGAIN_S:
        _last_written[error.code()] = now
        log.warning("kafka_trouble", code=error.name(), message=error.str(), fatal=error.fatal())


_MEANINGS = {
    KafkaError._PARTITION_EOF: Meaning.NOTHING,
    KafkaError._TIMED_OUT: Meaning.NOTHING,
    KafkaError._TRANSPORT: Meaning.TRANSIENT,
    KafkaError._ALL_BROKERS_DOWN: Meaning.TRANSIENT,
    KafkaError._RESOLVE: Meaning.TRANSIENT,
    KafkaError._WAIT_COORD: Meaning.TRANSIENT,
    KafkaError._TIMED_OUT_QUEUE: Meaning.TRANSIENT,
    KafkaError.LEADER_NOT_AVAILABLE: Meaning.TRANSIENT,
    KafkaError.NOT_LEADER_FOR_PARTITION: Meaning.TRANSIENT,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS: Meaning.TRANSIENT,
    KafkaError.COORDINATOR_NOT_AVAILABLE: Meaning.TRANSIENT,
    KafkaError.NOT_COORDINATOR: Meaning.TRANSIENT,
    KafkaError.REBALANCE_IN_PROGRESS: Meaning.TRANSIENT,
    KafkaError.ILLEGAL_GENERATION: Meaning.LEFT_GROUP,
    KafkaError.UNKNOWN_MEMBER_ID: Meaning.LEFT_GROUP,
    KafkaError._MAX_POLL_EXCEEDED: Meaning.LEFT_GROUP,
    KafkaError._AUTO_OFFSET_RESET: Meaning.POSITION_LOST,
    KafkaError.OFFSET_OUT_OF_RANGE: Meaning.POSITION_LOST,
    KafkaError.UNKNOWN_TOPIC_OR_PART: Meaning.UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_TOPIC: Meaning.UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION: Meaning.UNKNOWN_TOPIC,
}
FENCED = frozenset(
    {
        KafkaError._FENCED,
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
    }
)

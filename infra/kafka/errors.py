"""What can go wrong with Kafka, and which kind each error of the client is."""

import time
from enum import Enum, auto

import structlog
from confluent_kafka import KafkaError

from infra.errors import EventideError
from infra.kafka.message import ClientError

log = structlog.get_logger()

LOG_AGAIN_S = 10.0
_last_logged_s: dict[int, float] = {}


class KafkaFailed(EventideError):
    """The root of this package's errors: the client cannot continue."""

    hint = "are the brokers reachable and the topics there? see `eventide status`"


class NoBroker(KafkaFailed):
    """No broker responds."""


class ConsumerFailed(KafkaFailed):
    """The consumer cannot continue; a new process starts from the committed positions."""


class PositionLost(KafkaFailed):
    """A position is no longer, or not yet, in its partition: events would be skipped or repeated.

    It happens when topics were deleted while a store kept its data, when the brokers lost data, or
    when events passed their retention before they were read.
    """

    hint = (
        "restore what is lost, or stop ingest and serving and accept the gap:"
        " `eventide topics accept-gap` shows it first (docs/how-to/operate.md)"
    )


class ProducerFailed(KafkaFailed):
    """The producer cannot continue; the last transaction is not known to be committed."""


class Fenced(KafkaFailed):
    """Another process runs under our transactional id, or we slept past the timeout."""

    hint = "give each process its own instance name"
    exit_code = 3  # so that a supervisor can distinguish it from a crash


class TransactionAborted(EventideError):
    """No record of it is visible to any reader. Rewind and continue."""


class TooLarge(TransactionAborted):
    """A record is larger than its topic allows; a retry cannot help."""


class TransactionUnclear(EventideError):
    """It is unknown whether it was committed: read your own position before you continue."""


class ErrorKind(Enum):
    """What an error means for the consumer that gets it."""

    NOT_AN_ERROR = auto()  # the end of a partition, an empty poll
    TRANSIENT = auto()  # the client recovers by itself
    LEFT_GROUP = auto()  # the callbacks say which partitions are gone
    POSITION_LOST = auto()
    UNKNOWN_TOPIC = auto()  # transient for a while after a start
    FATAL = auto()


def classify(error: ClientError) -> ErrorKind:
    """The kind of an error, as a consumer sees it. What is not known to pass is fatal."""
    if error.fatal():
        return ErrorKind.FATAL
    kind = _KINDS.get(error.code())
    if kind is not None:
        return kind
    return ErrorKind.TRANSIENT if error.retriable() else ErrorKind.FATAL


def on_client_error(error: KafkaError) -> None:
    """Log what a client reports beside its calls. Never raises: it runs as a callback.

    A client without brokers reports many times a second; each code is logged once in a while.
    """
    now = time.monotonic()
    if now - _last_logged_s.get(error.code(), -LOG_AGAIN_S) >= LOG_AGAIN_S:
        _last_logged_s[error.code()] = now
        log.warning("kafka_trouble", code=error.name(), message=error.str(), fatal=error.fatal())


_KINDS = {
    KafkaError._PARTITION_EOF: ErrorKind.NOT_AN_ERROR,
    KafkaError._TIMED_OUT: ErrorKind.NOT_AN_ERROR,
    KafkaError._TRANSPORT: ErrorKind.TRANSIENT,
    KafkaError._ALL_BROKERS_DOWN: ErrorKind.TRANSIENT,
    KafkaError._RESOLVE: ErrorKind.TRANSIENT,
    KafkaError._WAIT_COORD: ErrorKind.TRANSIENT,
    KafkaError._TIMED_OUT_QUEUE: ErrorKind.TRANSIENT,
    KafkaError.LEADER_NOT_AVAILABLE: ErrorKind.TRANSIENT,
    KafkaError.NOT_LEADER_FOR_PARTITION: ErrorKind.TRANSIENT,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS: ErrorKind.TRANSIENT,
    KafkaError.COORDINATOR_NOT_AVAILABLE: ErrorKind.TRANSIENT,
    KafkaError.NOT_COORDINATOR: ErrorKind.TRANSIENT,
    KafkaError.REBALANCE_IN_PROGRESS: ErrorKind.TRANSIENT,
    KafkaError.ILLEGAL_GENERATION: ErrorKind.LEFT_GROUP,
    KafkaError.UNKNOWN_MEMBER_ID: ErrorKind.LEFT_GROUP,
    KafkaError._MAX_POLL_EXCEEDED: ErrorKind.LEFT_GROUP,
    KafkaError._AUTO_OFFSET_RESET: ErrorKind.POSITION_LOST,
    KafkaError.OFFSET_OUT_OF_RANGE: ErrorKind.POSITION_LOST,
    KafkaError.UNKNOWN_TOPIC_OR_PART: ErrorKind.UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_TOPIC: ErrorKind.UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION: ErrorKind.UNKNOWN_TOPIC,
}
FENCED = frozenset(
    {
        KafkaError._FENCED,
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
    }
)

"""The client's settings, each with its reason. An installation's own properties win over them."""

from typing import Any

from infra.kafka.errors import on_client_error
from infra.settings import KafkaSettings

OPERATION_TIMEOUT_S = 10.0  # the client's own default is to wait for ever
RETRY_BACKOFF_MS = 10  # the default of 100 costs a small transaction two to three times its time


def client_config(kafka: KafkaSettings) -> dict[str, Any]:
    """What every client needs.

    Without `error_cb`: an admin client would run it on a thread of its own, and raises its errors.
    """
    return {
        "bootstrap.servers": kafka.bootstrap_servers,
        "retry.backoff.ms": RETRY_BACKOFF_MS,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 500,  # back soon after a broker's restart
        "allow.auto.create.topics": False,  # a misspelled topic is an error
        "log_level": 2,  # what it would log of lost connections comes through `error_cb`
        **kafka.properties,
    }


def consumer_config(kafka: KafkaSettings, *, group: str, instance: str) -> dict[str, Any]:
    """A member of `group` that manages its positions itself.

    `instance` names it in the broker's lists. It is not static membership: that would keep the
    partitions of a killed process until its session ends, even from its own successor.
    """
    return {
        **client_config(kafka),
        "error_cb": on_client_error,
        "client.id": f"{group}-{instance}",
        "group.id": group,
        "enable.auto.commit": False,  # offsets live in the transaction, or beside the data
        "enable.auto.offset.store": False,
        "isolation.level": "read_committed",
        "auto.offset.reset": "error",  # a lost position is an error; a new group's start is sought
        "enable.partition.eof": True,  # how a position gets past the markers of transactions
        "group.protocol": "classic",
        "partition.assignment.strategy": "cooperative-sticky",  # keeps what a member has
        "session.timeout.ms": 10_000,  # a killed member's partitions move after this
        "heartbeat.interval.ms": 2_000,
        "max.poll.interval.ms": 120_000,
        "queued.max.messages.kbytes": 16_384,  # the default of 64 MB grows with the lag
        "queued.min.messages": 10_000,
        # A response is unpacked whole, and a few kilobytes may unpack to gigabytes. A batch that
        # unpacks to more than `receive.message.max.bytes` is unreadable: see `unreadable`.
        "max.partition.fetch.bytes": 262_144,
        "fetch.max.bytes": 16_777_216,
        "receive.message.max.bytes": 33_554_432,
        "fetch.wait.max.ms": 50,
        "fetch.queue.backoff.ms": 50,  # the default of 1000 stalls after a full queue
        "check.crcs": True,
        **kafka.properties,
    }


def producer_config(kafka: KafkaSettings, *, transactional_id: str | None) -> dict[str, Any]:
    """A producer that waits for all replicas; with an id, a transactional one.

    The id is stable, so a restarted process ends its own open transaction at once, which would
    otherwise delay every reader until the timeout.
    """
    config = {
        **client_config(kafka),
        "error_cb": on_client_error,
        "enable.idempotence": True,
        "acks": "all",
        "linger.ms": 5,
        "compression.type": "lz4",  # costs less than the bytes it saves
        "partitioner": "murmur2_random",  # the same partition for a key as Java clients choose
        "queue.buffering.max.messages": 200_000,
        "queue.buffering.max.kbytes": 262_144,
        "message.max.bytes": 4_000_000,
        "delivery.timeout.ms": 10_000,
    }
    if transactional_id is not None:
        config |= {"transactional.id": transactional_id, "transaction.timeout.ms": 15_000}
    return {**config, **kafka.properties}

"""Every topic, declared once: those of events, of outcomes, and internal ones."""

from collections.abc import Sequence

from features.contracts.dead_letters import dead_letter_topic
from features.definitions import Domain
from infra.kafka.admin import TopicSpec

INGEST_DEAD_LETTERS = dead_letter_topic("ingest")
SERVING_DEAD_LETTERS = dead_letter_topic("serving")
REPLAY_PROGRESS = "replay.progress"
CLOCK = "process.clock"

# Event times may lie years back: nothing may be deleted by its age or its size, or merged by its
# key, or refused for its age. A timestamp is the moment of emission, never that of the broker. A
# replica that lacks records must not become the leader.
_KEPT = {
    "message.timestamp.type": "CreateTime",
    "message.timestamp.before.max.ms": str((1 << 63) - 1),
    "unclean.leader.election.enable": "false",
}
_FOR_EVER = {
    **_KEPT,
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
}
_NEWEST_BY_KEY = {**_KEPT, "cleanup.policy": "compact"}
# Its records are empty: only the time that the broker gives them is read, once.
_BROKER_TIME = {
    "message.timestamp.type": "LogAppendTime",
    "cleanup.policy": "delete",
    "retention.ms": "86400000",
}
# Kafka's default: a producer that reckons with it is not refused, and the codec takes less.
_LARGEST_EVENT = {"max.message.bytes": 1_048_588}
# A record of the largest size that a topic takes must fit, with the headers of a dead letter.
_LARGEST_DEAD_LETTER = {"max.message.bytes": 2_097_152}
OFFSETS_RETENTION_MINUTES = 365 * 24 * 60
"""For how long the brokers should keep the positions of a group without members."""


def topic_specs(domains: Sequence[Domain]) -> list[TopicSpec]:
    """The topics that the domains and the pipeline need."""
    events = [
        TopicSpec(name=e.name, partitions=e.partitions, config=_FOR_EVER, least=_LARGEST_EVENT)
        for d in domains
        for e in d.events
    ]
    outcomes = [
        TopicSpec(
            name=d.predictions_topic,
            partitions=_request_partitions(d),
            config=_FOR_EVER,
            least=_LARGEST_EVENT,
        )
        for d in domains
        if d.services
    ]
    own = [
        TopicSpec(
            name=INGEST_DEAD_LETTERS, partitions=1, config=_FOR_EVER, least=_LARGEST_DEAD_LETTER
        ),
        TopicSpec(
            name=SERVING_DEAD_LETTERS, partitions=1, config=_FOR_EVER, least=_LARGEST_DEAD_LETTER
        ),
        TopicSpec(name=REPLAY_PROGRESS, partitions=1, config=_NEWEST_BY_KEY),
        TopicSpec(name=CLOCK, partitions=1, config=_BROKER_TIME),
    ]
    return events + outcomes + own


def _request_partitions(domain: Domain) -> int:
    """As many as the requests have, so that an outcome keeps its request's partition and order."""
    return max(service.decision.request.partitions for service in domain.services)

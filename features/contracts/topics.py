"""Every topic, declared once: those of events, of outcomes, and internal ones."""

from collections.abc import Sequence

from features.contracts.dead_letters import dead_letter_topic
from features.definitions import Domain
from infra.kafka.admin import TopicSpec

INGEST_DEAD_LETTERS = dead_letter_topic("ingest")
SERVING_DEAD_LETTERS = dead_letter_topic("serving")
REPLAY_PROGRESS = "replay.progress"

# Event times may lie years back: nothing may be deleted by its age. A timestamp is the moment of
# emission, never that of the broker.
_FOR_EVER = {"retention.ms": "-1", "message.timestamp.type": "CreateTime"}
# A record of the largest size that a topic takes must fit, with the headers of a dead letter.
_WITH_LARGE_RECORDS = {**_FOR_EVER, "max.message.bytes": "2097152"}
_NEWEST_BY_KEY = {"cleanup.policy": "compact"}


def topic_specs(domains: Sequence[Domain]) -> list[TopicSpec]:
    """The topics that the domains and the pipeline need."""
    events = [
        TopicSpec(name=e.name, partitions=e.partitions, config=_FOR_EVER)
        for d in domains
        for e in d.events
    ]
    outcomes = [
        TopicSpec(name=d.predictions_topic, partitions=_request_partitions(d), config=_FOR_EVER)
        for d in domains
        if d.services
    ]
    own = [
        TopicSpec(name=INGEST_DEAD_LETTERS, partitions=1, config=_WITH_LARGE_RECORDS),
        TopicSpec(name=SERVING_DEAD_LETTERS, partitions=1, config=_WITH_LARGE_RECORDS),
        TopicSpec(name=REPLAY_PROGRESS, partitions=1, config=_NEWEST_BY_KEY),
    ]
    return events + outcomes + own


def _request_partitions(domain: Domain) -> int:
    """As many as the requests have, so that an outcome keeps its request's partition and order."""
    return max(service.decision.request.partitions for service in domain.services)

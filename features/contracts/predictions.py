"""The outcome of a request: what downstream applications read."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from infra.kafka.message import Message
from infra.kafka.partitions import Partition

SCHEMA = "prediction/1"


class _Source(Struct):
    """The only field of an outcome that says which request it answers."""

    source: str


_decode_source = msgspec.json.Decoder(_Source).decode


def source_of_outcome(message: Message) -> tuple[Partition, int] | None:
    """The partition and the position of the request of an outcome; None if it is no outcome."""
    try:
        topic, number, offset = _decode_source(message.value() or b"").source.rsplit("-", 2)
        return Partition(topic, int(number)), int(offset)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


class Outcome(Struct, frozen=True, kw_only=True, gc=False):
    """One for each request, never two: a prediction, or a rejection with its reason.

    `source` (topic-partition-offset of the request) is a natural id. A rejected request that could
    not be read has no `event_id`; its bytes are in the dead-letter topic.
    """

    outcome: Literal["predicted", "rejected"]
    source: str
    scored_at_us: int
    event_id: str | None = None
    entity_id: str | None = None
    decision_time_us: int | None = None
    score: Annotated[float, Meta(ge=0, le=1)] | None = None  # probability that the label is 1
    model: str | None = None
    model_version: str | None = None
    run_id: str | None = None  # the MLflow run that trained it
    features_exact: bool | None = None  # False: its time was before what the store keeps exact
    features_fresh: bool | None = None  # False: ingest had not applied all earlier events
    features_missing: int | None = None  # features without a value
    reason: str | None = None  # a code: why the request was rejected

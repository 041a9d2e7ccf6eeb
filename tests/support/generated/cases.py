"""One generated case: what is declared, what was sent, which queries are made."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from features.contracts.codec import encode, encode_key, schema_headers
from features.definitions import EventType, FeatureService, Label, View
from infra.kafka.partitions import Partition

START_US = 1_356_998_400_000_000
"""Midnight: hops of whole seconds and hours begin at it."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """An event as its source sent it. Repeating one with the same id is a duplicate."""

    event: EventType
    record: Any
    emitted_ms: int
    partition: int = 0


@dataclass(frozen=True, kw_only=True)
class Query:
    """A request, and the time as of which it is answered."""

    record: Any
    as_of_us: int


@dataclass(frozen=True, kw_only=True)
class Batch:
    """How many events are ingested together, and what happens afterwards.

    `observes_readers`: the readers have answered everything, so values may be compacted up to
    `least_us` before the newest event. `restarts`: ingest begins again on the stores. `rebuilds`:
    the online store that is rebuilt is made at this point, and ingest goes on with it. `slack`: the
    rows beyond which a value is compacted from a restart on, if they change.
    """

    size: int
    observes_readers: bool = False
    restarts: bool = False
    rebuilds: bool = False
    slack: int | None = None


@dataclass(frozen=True, kw_only=True)
class Training:
    """A training set: a service, a label and the times that it is made for."""

    service: FeatureService
    label: Label
    start_us: int
    end_us: int
    known_before_us: int
    slice_us: int


@dataclass(frozen=True, kw_only=True)
class Case:
    """Everything that one comparison needs."""

    events: tuple[EventType, ...]
    request: EventType
    views: tuple[View, ...]
    sent: tuple[Sent, ...]
    queries: tuple[Query, ...] = ()
    batches: tuple[Batch, ...] = ()
    training: Training | None = None
    partitions: int = 1
    horizon_us: int = 10**12
    least_us: int = 10**12
    most_us: int = 10**12
    max_future_us: int = 10 * 60 * 1_000_000
    compaction_slack: int = 2
    """The rows beyond which a value is compacted."""

    def __repr__(self) -> str:
        """Short enough to read, in the order in which a person looks for the reason."""
        shown = [
            *(f"view {_shown(v)}" for v in self.views),
            *(
                f"event {e.name}: {_fields(e)}, checks {[_shown(c) for c in e.checks]}, "
                f"known_after {e.known_after}, key {e.key}"
                for e in self.events
            ),
            f"partitions {self.partitions}, horizon {self.horizon_us}",
            f"watermark {self.least_us} to {self.most_us}, slack {self.compaction_slack}",
            *(
                f"sent {s.event.name}-{s.partition} at {s.emitted_ms}: {s.record}"
                for s in self.sent
            ),
            f"batches {self.batches}",
            *(f"query at {q.as_of_us}: {q.record}" for q in self.queries),
            f"training {self.training and _shown(self.training)}",
        ]
        return "Case(\n  " + "\n  ".join(shown) + "\n)"

    def _repr_pretty_(self, printer: Any, _: bool) -> None:
        """What Hypothesis prints."""
        printer.text(repr(self))


def _shown(thing: object) -> str:
    text = repr(thing)
    return text if len(text) < 3_000 else text[:3_000] + "..."


def _fields(event: EventType) -> str:
    hints = event.record.__annotations__
    return ", ".join(f"{name}: {hints.get(name)}" for name in event.fields)


@dataclass(frozen=True, kw_only=True)
class MadeMessage:
    """A Kafka message that was never in Kafka."""

    sent: Sent
    place: int
    bytes_: bytes = field(default=b"")

    def topic(self) -> str:
        """Its topic."""
        return self.sent.event.name

    def partition(self) -> int:
        """The number of its partition."""
        return self.sent.partition

    def offset(self) -> int:
        """Its place in the partition."""
        return self.place

    def key(self) -> bytes:
        """Its key."""
        return encode_key(self.sent.event, self.sent.record)

    def value(self) -> bytes:
        """The record as JSON."""
        return self.bytes_ or encode(self.sent.record)

    def headers(self) -> list[tuple[str, bytes | None]]:
        """The schema header."""
        return [*schema_headers(self.sent.event)]

    def timestamp(self) -> tuple[int, int]:
        """When it was emitted, in milliseconds."""
        return (1, self.sent.emitted_ms)

    def error(self) -> None:
        """Nothing is wrong."""


def messages_of(sent: Sequence[Sent]) -> list[MadeMessage]:
    """The messages in the order in which they were sent, with their offsets."""
    ends: dict[Partition, int] = {}
    messages = []
    for one in sent:
        place = Partition(one.event.name, one.partition)
        messages.append(MadeMessage(sent=one, place=ends.get(place, 0)))
        ends[place] = ends.get(place, 0) + 1
    return messages


def plain_fields(record: msgspec.Struct) -> dict[str, Any]:
    """The fields of a record by name."""
    return {name: getattr(record, name) for name in record.__struct_fields__}

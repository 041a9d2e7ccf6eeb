"""What can go wrong with events and features. Errors carry the data that a caller may need."""

from infra.clock import from_us
from infra.errors import DeclarationMistake, EventideError
from infra.kafka.partitions import Partition


class FeatureError(EventideError):
    """The root of this package's errors."""


class DeclarationError(FeatureError, DeclarationMistake):
    """A declaration contradicts itself. It is raised when its module is imported."""


class MalformedEvent(FeatureError):
    """The bytes do not match their contract; a retry cannot help.

    `reason` never holds the payload, which may be personal data.
    """

    def __init__(self, *, code: str, reason: str) -> None:
        self.code, self.reason = code, reason
        super().__init__(f"{code}: {reason}")


class ClockDiffers(FeatureError):
    """Most records come from the future, so a clock is wrong. None of them is refused for it."""

    hint = "compare the clocks of this machine, of the brokers and of the producers"


class StoreUnavailable(FeatureError):
    """A store did not respond or refused the write; nothing is known to be written."""


class StoreDamaged(StoreUnavailable):
    """The content of a store is damaged, so it cannot be opened or read."""


class StalePositions(FeatureError):
    """A store no longer has its writer's positions. Nothing was written: load the positions."""

    hint = "each partition has one writer; is a second group of ingest running?"


class OffsetConflict(StalePositions):
    """A partition's position in a store is not the one that its writer expects.

    Another process wrote the partition, or replaced the whole store.
    """

    def __init__(self, partition: Partition, *, expected: int, actual: int, store: str) -> None:
        self.partition, self.expected, self.actual, self.store = partition, expected, actual, store
        super().__init__(
            f"the {store} store has the position {actual} for {partition.topic}-{partition.number},"
            f" not {expected}: another process wrote it or replaced it"
        )


class StoreReplaced(StalePositions):
    """The whole store was cleared or replaced after its writer had loaded the positions."""


class CheckFailed(FeatureError):
    """Stored events violate a check with `on_failure="stop"`, so no training set is made of them.

    `events`: how many. `example`: the id of the first one.
    """

    hint = "correct the source, or let the check nullify the field or dead-letter the event"

    def __init__(self, *, event: str, check: str, events: int, example: str) -> None:
        self.event, self.check, self.events, self.example = event, check, events, example
        super().__init__(
            f"{events} events of {event} violate the check {check!r}, the first one is {example!r}"
        )


class DataNotReady(FeatureError):
    """The offline store does not have the needed data yet; try again later."""


class HistoryTooShort(DataNotReady):
    """The newest event in the offline store is older than the time that is needed.

    `newest_us` is None when the store is empty. `event`: of which events; None: of all.
    """

    hint = (
        "does ingest run and keep up? `eventide status`, `eventide audit`; if all events are"
        " stored, choose an earlier cut-off"
    )

    def __init__(
        self, *, newest_us: int | None, needed_until_us: int, event: str | None = None
    ) -> None:
        self.newest_us, self.needed_until_us, self.event = newest_us, needed_until_us, event
        state = "is empty" if newest_us is None else f"ends at {from_us(newest_us)}"
        what = f"for {event} " if event else ""
        super().__init__(
            f"the offline store {what}{state}, events until {from_us(needed_until_us)} are needed"
        )


class SourceNotReady(DataNotReady):
    """The offline store has not passed all of a topic that was emitted before the cut-off.

    `others`: how many other partitions are behind too.
    """

    hint = "does ingest run and keep up? `eventide status`, `eventide audit`; then try again"

    def __init__(
        self,
        *,
        topic: str,
        partition: int,
        position: int,
        end: int,
        cutoff_us: int,
        others: int,
    ) -> None:
        self.topic, self.partition, self.position, self.end = topic, partition, position, end
        more = f" (and {others} more partitions)" if others else ""
        super().__init__(
            f"the offline store is at offset {position} of {topic}-{partition}, and events before"
            f" {from_us(cutoff_us)} reach to {end}{more}"
        )


class SchemaChanged(FeatureError):
    """An event's record no longer fits the table of its stored events. Nothing was written."""

    hint = (
        "a table never loses a field: leave the old one and add another with a default, or "
        "declare a new event under another name (docs/how-to/change-an-event.md)"
    )

    def __init__(self, *, event: str, field: str, reason: str) -> None:
        self.event, self.field, self.reason = event, field, reason
        super().__init__(f"event {event}: the field {field!r} {reason}")


class WriteConflict(FeatureError):
    """Another process changed a table at the same time; read it again and retry."""

"""What can go wrong with events and features."""

from infra.errors import EventideError
from infra.kafka.partitions import Partition


class FeatureError(EventideError):
    """The root of this package's errors."""


class DeclarationError(FeatureError):
    """A declaration contradicts itself; it is found when its module is imported."""


class MalformedEvent(FeatureError):
    """The bytes do not match their contract; trying again cannot help.

    `reason` never holds the payload, which may be personal data.
    """

    def __init__(self, *, code: str, reason: str) -> None:
        self.code, self.reason = code, reason
        super().__init__(f"{code}: {reason}")


class StoreUnavailable(FeatureError):
    """A store did not answer or refused the write; nothing is known to be written."""


class StoreDamaged(StoreUnavailable):
    """What lies in a store is not what was written there, so it cannot be opened or read."""


class StalePositions(FeatureError):
    """A store no longer has the positions that its writer knows. Nothing was written: load them."""

    hint = "each partition has one writer; is a second group of ingest running?"


class OffsetConflict(StalePositions):
    """A partition's offset in a store is not the one that its writer expects there.

    Another process wrote the partition, or replaced the whole store.
    """

    def __init__(self, partition: Partition, *, expected: int, actual: int, store: str) -> None:
        self.partition, self.expected, self.actual, self.store = partition, expected, actual, store
        super().__init__(
            f"the {store} store stands at {actual} of {partition.topic}-{partition.number},"
            f" not at {expected}: another process wrote it or replaced it"
        )


class StoreReplaced(StalePositions):
    """The whole store was cleared or replaced since its writer has loaded the positions."""


class CheckFailed(FeatureError):
    """Stored events break a check after which no training set may be made of them."""


class DataNotReady(FeatureError):
    """The offline store does not yet hold all that was known by the cut-off; try again later."""


class SchemaChanged(FeatureError):
    """An event's record no longer fits the table that holds its past; nothing was written."""


class WriteConflict(FeatureError):
    """Another process changed a table at the same time; look again at what is to be done."""

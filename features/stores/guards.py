"""Whether a store is still the one that its writer or reader expects."""

from collections.abc import Mapping

from features.errors import OffsetConflict, StoreReplaced
from features.stores.ports import DeclaredView
from infra.kafka.partitions import Positions


def check_positions(stored: Positions, expected: Positions, *, store: str) -> None:
    """Check that a store (`online`, `offline`) has the positions that its writer expects.

    The position of a partition that was never written is 0.

    Raises:
        OffsetConflict: it does not.
    """
    for partition, offset in expected.items():
        actual = stored.get(partition, 0)
        if actual != offset:
            raise OffsetConflict(partition, expected=offset, actual=actual, store=store)


def check_schema_ids(stored: Mapping[str, int], expected: Mapping[str, int]) -> None:
    """Raises StoreReplaced if the schema ids of a store are not those that were read before."""
    if dict(stored) != dict(expected):
        raise store_replaced()


def store_replaced() -> StoreReplaced:
    """The error of a writer whose store is not the one that it has read."""
    return StoreReplaced("the online store was cleared or replaced by another process")


def adopted_ids(stored: Mapping[str, int], declared: Mapping[str, DeclaredView]) -> dict[str, int]:
    """The schema ids of a store after views were declared: no view is added."""
    return {view: declared[view].schema_id if view in declared else s for view, s in stored.items()}

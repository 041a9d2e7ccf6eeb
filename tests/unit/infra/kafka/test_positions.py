"""The positions that a group member tracks of its partitions, without a broker."""

from infra.kafka.partitions import Partition
from infra.kafka.positions import PartitionPositions

P0, P1 = Partition("t", 0), Partition("t", 1)


def reading() -> PartitionPositions:
    """Owns two partitions, both placed at 10 and read from there."""
    positions = PartitionPositions()
    positions.assign([P0, P1])
    positions.place({P0: 10, P1: 10})
    positions.sought(P0)
    positions.sought(P1)
    positions.begin_batch()
    return positions


def takes(positions: PartitionPositions, partition: Partition, next_offset: int) -> bool:
    """Whether the first record of a new batch is taken."""
    positions.begin_batch()
    return positions.take(partition, next_offset)


def test_an_assigned_partition_gives_records_only_after_it_is_placed_and_sought() -> None:
    positions = PartitionPositions()
    positions.assign([P0])
    assert positions.unplaced == {P0}
    assert not takes(positions, P0, 8)

    positions.place({P0: 7})
    assert (positions.unplaced, positions.unsought) == (set(), {P0: 7})
    assert not takes(positions, P0, 8)

    positions.sought(P0)
    assert positions.unsought == {}
    assert takes(positions, P0, 8)
    assert positions.stale_records == 0


def test_a_record_is_taken_once() -> None:
    positions = reading()

    assert positions.take(P0, 11)
    assert not positions.take(P0, 11)
    assert not positions.take(P1, 10)
    assert positions.stale_records == 2
    assert positions.taken == {P0: 11}
    assert positions.done == {P0: 10, P1: 10}


def test_records_below_an_advanced_position_are_never_taken_again() -> None:
    positions = reading()
    positions.take(P0, 15)
    positions.advance(positions.taken)
    positions.begin_batch()

    assert positions.done == {P0: 15, P1: 10}
    assert positions.taken == {}
    assert not positions.take(P0, 15)


def test_a_rewind_goes_back_to_the_advanced_position() -> None:
    positions = reading()
    positions.take(P0, 15)
    positions.rewind()

    assert positions.taken == {}
    assert positions.unsought == {P0: 10, P1: 10}
    assert not positions.take(P0, 16)
    assert not takes(positions, P0, 16)


def test_the_end_of_a_partition_advances_its_position_without_a_record() -> None:
    positions = reading()
    positions.take(P0, 15)
    positions.reach(P0, 16)
    positions.reach(P1, 10)

    assert positions.taken == {P0: 16}
    assert positions.stale_records == 0


def test_a_paused_batch_takes_nothing() -> None:
    positions = reading()
    positions.begin_batch(paused=True)

    assert not positions.take(P0, 11)
    positions.reach(P0, 11)
    assert positions.taken == {}


def test_a_revoked_partition_is_ignored() -> None:
    positions = reading()
    positions.take(P0, 15)
    positions.take(P1, 12)
    positions.revoke([P0])

    assert positions.owned == {P1}
    assert positions.taken == {P1: 12}
    positions.advance({P0: 15, P1: 12})
    assert positions.done == {P1: 12}
    assert positions.epoch == 2


def test_a_reassigned_partition_is_placed_again() -> None:
    positions = reading()
    positions.revoke([P0])
    positions.assign([P0])

    assert positions.unplaced == {P0}


def test_forgotten_positions_are_looked_up_again() -> None:
    positions = reading()
    positions.forget()

    assert positions.unplaced == {P0, P1}
    assert positions.unsought == {}

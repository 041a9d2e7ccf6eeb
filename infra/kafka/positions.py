"""What a group member knows of its partitions: which it owns, how far each is done and taken."""

from collections.abc import Collection, Mapping

from infra.kafka.partitions import Partition, Positions


class PartitionPositions:
    """Positions of the owned partitions. Pure: it talks to no broker.

    An owned partition is unplaced until `place` says where it starts, and then unsought until
    `sought` says that the client reads from there. Only placed and sought partitions give records.

    One thread changes it; any thread may read `owned`, `done` and `taken`.
    """

    def __init__(self) -> None:
        self.epoch = 0
        """How often partitions came or went."""
        self.stale_records = 0
        """Records that were skipped because they lie below our position."""
        self._owned: frozenset[Partition] = frozenset()
        self._next: dict[Partition, int] = {}
        self._unsought: set[Partition] = set()
        self._taken: dict[Partition, int] = {}
        self._reached: dict[Partition, int] = {}
        """Of the partitions that are read, within the batch: the next offset that is new."""

    @property
    def owned(self) -> frozenset[Partition]:
        """The partitions that the group has assigned to us."""
        return self._owned

    @property
    def unplaced(self) -> frozenset[Partition]:
        """Owned partitions whose start is not known."""
        return self._owned - self._next.keys()

    @property
    def unsought(self) -> Positions:
        """Placed partitions that the client must seek, each with the offset to seek to."""
        return {partition: self._next[partition] for partition in self._unsought}

    @property
    def done(self) -> Positions:
        """The next offset of each placed partition: everything below it is durable."""
        return dict(self._next)

    @property
    def reached(self) -> Positions:
        """The next new offset of each partition that is read, within the batch."""
        return self._reached

    @property
    def taken(self) -> Positions:
        """The next offset of each owned partition once the records of this batch are done."""
        return {p: offset for p, offset in self._taken.items() if p in self._owned}

    def assign(self, partitions: Collection[Partition]) -> None:
        """Add partitions that the group has assigned to us."""
        self._owned |= frozenset(partitions)
        self.epoch += 1

    def revoke(self, partitions: Collection[Partition]) -> None:
        """Remove partitions that the group has taken away."""
        self._owned -= frozenset(partitions)
        self._unsought -= frozenset(partitions)
        for partition in partitions:
            self._next.pop(partition, None)
        self.epoch += 1

    def place(self, starts: Mapping[Partition, int]) -> None:
        """Set where these partitions start."""
        self._next |= starts
        self._unsought |= starts.keys()

    def sought(self, partition: Partition) -> None:
        """Note that the client reads the partition from its position."""
        self._unsought.discard(partition)

    def seek_again(self, partition: Partition) -> None:
        """Note that the client has to seek before it gives more records of the partition."""
        if partition in self._next:
            self._unsought.add(partition)

    def begin_batch(self, *, paused: bool = False) -> None:
        """Begin a batch: nothing of it is taken yet; when `paused`, nothing will be."""
        self._taken = {}
        self._reached = {} if paused else self._next.copy()
        for partition in self._unsought:
            self._reached.pop(partition, None)

    def take(self, partition: Partition, next_offset: int) -> bool:
        """Count the record that ends at `next_offset` into the batch; False to skip it.

        A record of a partition that is not read is skipped: it comes again after the seek. One
        below our position is skipped as stale.
        """
        reached = self._reached.get(partition)
        if reached is None:
            return False
        if next_offset <= reached:
            self.stale_records += 1
            return False
        self._reached[partition] = self._taken[partition] = next_offset
        return True

    def reach(self, partition: Partition, offset: int) -> None:
        """Move over offsets without a record, up to `offset`, the end of the partition."""
        if offset > self._reached.get(partition, offset):
            self._reached[partition] = self._taken[partition] = offset

    def advance(self, positions: Positions) -> None:
        """Note that what lies below these positions is done; ignores partitions that left us."""
        for partition, offset in positions.items():
            if partition in self._owned:
                self._next[partition] = offset

    def rewind(self) -> None:
        """Drop the batch: every placed partition must be read again from its position."""
        self._taken = {}
        self._reached = {}
        self._unsought = set(self._next)

    def forget(self) -> None:
        """Unplace every partition: its start has to be looked up again."""
        self._next = {}
        self.rewind()

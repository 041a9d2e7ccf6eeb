"""The names of a store's keys in Redis.

Keys carry a generation, so that a store is emptied in one step, and the hash tag of their shard, so
that what one script reaches lies in one slot of a cluster.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

from infra.kafka.partitions import Partition

PREFIX = b"eventide:"
FIRST_GENERATION = b"0"
NEWEST = b"newest:"


@dataclass(frozen=True, kw_only=True)
class Names:
    """The keys of a store in one generation. All keys of a shard have its tag."""

    tags: Sequence[bytes]
    generation: bytes = FIRST_GENERATION

    @property
    def counter(self) -> bytes:
        """Holds the generation."""
        return PREFIX + b"{%s}:generation" % self.tags[0]

    @property
    def origins(self) -> bytes:
        """The logs that the positions belong to; the same in every generation."""
        return PREFIX + b"{%s}:origins" % self.tags[0]

    @property
    def evictions(self) -> bytes:
        """How many keys each server had evicted when the content was written."""
        return PREFIX + b"{%s}:evictions" % self.tags[0]

    @property
    def positions(self) -> list[bytes]:
        """The positions of each shard; those of the first one decide."""
        return [self._of(shard, b"positions") for shard in range(len(self.tags))]

    @property
    def schemas(self) -> bytes:
        """The views that the writers maintain."""
        return self._of(0, b"schemas")

    @property
    def declared(self) -> bytes:
        """The declaration under which the values of a view were computed."""
        return self._of(0, b"declared")

    @property
    def declarations(self) -> bytes:
        """What that declaration consists of."""
        return self._of(0, b"declarations")

    @property
    def redo(self) -> bytes:
        """Records of updates that were decided, by id."""
        return self._of(0, b"redo")

    @property
    def pending(self) -> bytes:
        """The record that a partition waits for."""
        return self._of(0, b"pending")

    def seen(self, partition: Partition) -> bytes:
        """Slices of seen ids, by first offset."""
        return self._of(0, b"seen:" + partition_name(partition).encode())

    def values(self, view: str) -> list[bytes]:
        """What comes before the entity in the key of a value, for each shard."""
        return [self._of(shard, _value(view)) for shard in range(len(self.tags))]

    def all_values(self, view: str) -> bytes:
        """A pattern for the keys of all values of a view."""
        special = re.sub(rb"([*?^\[\]\\])", rb"\\\1", _value(view))
        return PREFIX + b"{*}:%s:%s*" % (self.generation, special)

    def shard_of(self, entity: bytes) -> int:
        """Where an entity's values are."""
        return crc32(entity) % len(self.tags)

    def _of(self, shard: int, name: bytes) -> bytes:
        return PREFIX + b"{%s}:%s:%s" % (self.tags[shard], self.generation, name)


def partition_name(partition: Partition) -> str:
    """As part of a key, and as a field."""
    return f"{partition.topic}-{partition.number}"


def partition_of(name: bytes) -> Partition:
    """The partition of such a name."""
    topic, _, number = name.decode().rpartition("-")
    return Partition(topic, int(number))


def is_newest(name: bytes) -> bool:
    """Whether a field of the positions holds the newest emission of a partition."""
    return name.startswith(NEWEST)


def is_before(key: bytes, generation: int) -> bool:
    """Whether a key belongs to a generation before this one."""
    number = key.removeprefix(PREFIX).split(b":", 2)[1]
    return number.isdigit() and int(number) < generation


def _value(view: str) -> bytes:
    return b"v:" + view.encode() + b"\0"

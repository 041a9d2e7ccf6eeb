"""The keys of an online store in LMDB (a letter for the kind, then what it is about), and what its
values say."""

from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from features.engine.value_format import short_names
from infra.kafka.logs import LogOrigin
from infra.kafka.partitions import Partition

VALUE, SEEN = b"v", b"s"


def value_prefix(view: str) -> bytes:
    """What comes before the entity in the keys of a view's values."""
    return VALUE + blake2b(view.encode(), digest_size=6).digest()


def value_keys(view: str, entities: Sequence[bytes]) -> list[bytes]:
    """The keys of the values of entities; a very long one by its digest: LMDB takes keys of 511
    bytes."""
    prefix = value_prefix(view)
    named, names = prefix + b"=", short_names(entities)
    if names is entities:
        return [named + entity for entity in entities]
    return [
        (named if name is entity else prefix) + name
        for name, entity in zip(names, entities, strict=True)
    ]


def entity_of(key: bytes) -> bytes:
    """The entity of such a part of a key; a very long one by its `short_name`."""
    return key.removeprefix(b"=")


def partition_key(partition: Partition) -> bytes:
    """A partition as part of a key."""
    return partition.topic.encode() + b"\0" + partition.number.to_bytes(4, "big")


def partition_of(key: bytes) -> Partition:
    """The partition of such a key, behind its first letter."""
    topic, number = key[1:-5], key[-4:]
    return Partition(topic.decode(), int.from_bytes(number, "big"))


def seen_key(partition: Partition, first_offset: int) -> bytes:
    """The key of a slice of seen ids."""
    return SEEN + partition_key(partition) + number_bytes(first_offset)


def number_bytes(number: int) -> bytes:
    """A number as part of a key, or as a value: keys sort as their numbers do."""
    return number.to_bytes(8, "big")


def number_of(value: bytes) -> int:
    """The number of such bytes."""
    return int.from_bytes(value, "big")


def origin_of(value: bytes) -> LogOrigin:
    """The origin of a log that a value holds."""
    return msgspec.msgpack.decode(value, type=LogOrigin)

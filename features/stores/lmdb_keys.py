"""The keys of an online store in LMDB: a letter for the kind, then what it is about."""

from hashlib import blake2b

from infra.kafka.partitions import Partition

VALUE, SEEN = b"v", b"s"
MAX_KEY = 500  # LMDB takes 511 bytes


def value_prefix(view: str) -> bytes:
    """What comes before the entity in the keys of a view's values."""
    return VALUE + blake2b(view.encode(), digest_size=6).digest()


def entity_key(entity: bytes) -> bytes:
    """The entity as part of a key; a very long one by its digest."""
    if len(entity) <= MAX_KEY:
        return b"=" + entity
    return b"#" + blake2b(entity, digest_size=32).digest()


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

"""Keys and values of the LMDB online store as bytes, and the file that stages new content."""

import struct
from collections.abc import Iterator
from typing import IO

import msgspec

from infra.kafka.logs import LogOrigin
from infra.kafka.partitions import Partition

_LENGTH = struct.Struct("<Q")

Items = list[tuple[bytes, bytes]]


encode_origin = msgspec.msgpack.Encoder().encode


def decode_origin(value: bytes) -> LogOrigin:
    """The origin in a value."""
    return msgspec.msgpack.decode(value, type=LogOrigin)


def stage(file: IO[bytes], items: Items) -> None:
    """Append items to the file."""
    packed = msgspec.msgpack.encode(items)
    file.write(_LENGTH.pack(len(packed)))
    file.write(packed)


def staged_items(file: IO[bytes]) -> Iterator[Items]:
    """All items of the file, as they were appended."""
    file.seek(0)
    while header := file.read(_LENGTH.size):
        packed = file.read(_LENGTH.unpack(header)[0])
        yield msgspec.msgpack.decode(packed, type=Items)


def name_of(partition: Partition) -> bytes:
    """A partition as part of a key."""
    return partition.topic.encode() + b"\0" + partition.number.to_bytes(4, "big")


def partition_of(key: bytes) -> Partition:
    """The partition of a key that ends with its name, after one letter."""
    topic, number = key[1:-5], key[-4:]
    return Partition(topic.decode(), int.from_bytes(number, "big"))


def bytes_of(number: int) -> bytes:
    """A number in eight bytes, in an order that sorts."""
    return number.to_bytes(8, "big")


def number_of(value: bytes) -> int:
    """The number of such bytes."""
    return int.from_bytes(value, "big")

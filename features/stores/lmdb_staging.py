"""Content that is computed before it replaces that of a store, in a file meanwhile."""

import struct
from collections.abc import Iterator
from typing import IO

import msgspec

Items = list[tuple[bytes, bytes]]
"""Keys and values."""

_LENGTH = struct.Struct("<Q")


def stage(file: IO[bytes], items: Items) -> None:
    """Append items to the file."""
    packed = msgspec.msgpack.encode(items)
    file.write(_LENGTH.pack(len(packed)))
    file.write(packed)


def staged_items(file: IO[bytes]) -> Iterator[Items]:
    """What was staged, in order, as it was given."""
    file.seek(0)
    while header := file.read(_LENGTH.size):
        packed = file.read(_LENGTH.unpack(header)[0])
        yield msgspec.msgpack.decode(packed, type=Items)

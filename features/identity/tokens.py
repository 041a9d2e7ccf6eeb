"""Tokens: nested tuples of plain values, and their bytes, which are the same in every process."""

import hashlib
import math
import struct
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

Token = Any
"""None, bool, int, float, complex, str, bytes, `Parameter`, or a tuple of tokens."""


@dataclass(frozen=True)
class Parameter:
    """The name of a parameter. It counts only if some call passes it by that name."""

    name: str


def digest(token: Token, *, passed_by_name: Collection[str] | None = ()) -> str:
    """32 hexadecimal digits. `passed_by_name`: the parameters whose names count; None: all."""
    hashed = hashlib.blake2b(digest_size=16)
    pending = [token]
    while pending:
        part = pending.pop()
        if isinstance(part, tuple):
            hashed.update(b"(%d:" % len(part))
            pending.extend(reversed(part))
        elif isinstance(part, Parameter):
            counts = passed_by_name is None or part.name in passed_by_name
            hashed.update(_atom(part.name if counts else None))
        else:
            hashed.update(_atom(part))
    return hashed.hexdigest()


def _atom(value: Any) -> bytes:
    match value:
        case None | bool():
            return b"%s;" % str(value).encode()
        case int():
            return b"i%x;" % value
        case float():
            return b"f" + struct.pack(">d", math.nan if math.isnan(value) else value)
        case complex():
            return b"c" + struct.pack(">dd", value.real, value.imag)
        case str():
            text = value.encode("utf-8", "surrogatepass")
            return b"s%d:%s" % (len(text), text)
        case bytes():
            return b"b%d:%s" % (len(value), value)
        case _:
            raise TypeError(f"not a token: {type(value)}")

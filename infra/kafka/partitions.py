"""Positions in topics."""

from collections.abc import Mapping
from typing import NamedTuple


class Partition(NamedTuple):
    """One partition of a topic."""

    topic: str
    number: int


Positions = Mapping[Partition, int]
"""For each partition the *next* offset to read: what lies below it is done."""


def has_reached(positions: Positions, ends: Positions) -> bool:
    """Whether everything below `ends` is done."""
    return all(positions.get(partition, 0) >= end for partition, end in ends.items())

"""The last of many items that exist for a while each, as of many moments at once."""

from collections.abc import Iterator

import numpy as np

from features.definitions.events import Int64Array


def last_existing(
    begin: Int64Array, end: Int64Array, *, first: Int64Array, stop: Int64Array
) -> Int64Array:
    """For each moment the largest item with `first <= item < stop` that exists then; -1 for none.

    Items and moments are numbered from 0, and an item exists at `begin <= moment < end`. Shapes:
    (items,), (items,), (moments,), (moments,) -> (moments,). O((items + moments) log^2 moments).
    """
    latest = np.full(len(first), -1, np.int64)
    moments, step = np.arange(len(first)), len(begin) + 1
    for level, block, item in _blocks(begin, end):
        keys = np.sort(block * step + item)
        base = (moments >> level) * step
        place = np.searchsorted(keys, base + stop) - 1
        last = keys[np.maximum(place, 0)] - base
        exists = (place >= 0) & (last >= first)
        np.maximum(latest, last, out=latest, where=exists)
    return latest


def _blocks(begin: Int64Array, end: Int64Array) -> Iterator[tuple[int, Int64Array, Int64Array]]:
    """Each interval as blocks of 2^level moments, at most two a level: (level, blocks, items)."""
    items, level = np.flatnonzero(begin < end), 0
    begin, end = begin[items], end[items]
    while len(items):
        begins, ends = begin & 1 == 1, end & 1 == 1
        block = np.concatenate([begin[begins], end[ends] - 1])
        if len(block):
            yield level, block, np.concatenate([items[begins], items[ends]])
        begin, end = (begin + 1) >> 1, end >> 1
        longer = begin < end
        begin, end, items, level = begin[longer], end[longer], items[longer], level + 1

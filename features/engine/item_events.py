"""Which events of an item count for which of its openings.

Each type of event about an item has columns, the first of which says when it became known. Of the
openings of an item the one that was known first counts, for as long as its time lies at most
`memory_us` before the query; then the next one. So an opening can only count if its time is later
than those of all openings known before it. Of every other type the first event counts that was
known at most `memory_us` before the opening's time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.definitions.events import BoolArray, Int64Array
from features.engine.sorting import HIGHEST, UNSET, Order

NamedColumns = Mapping[str, Int64Array] | NDArray[np.void]


@dataclass(frozen=True, kw_only=True)
class ItemEvents:
    """The events of one type, sorted by item and when they became known; no two are equal in both.

    `item`: the number of the item. `columns`: the first one says when.
    """

    item: Int64Array
    columns: dict[str, Int64Array]

    def __len__(self) -> int:
        return len(self.item)

    def where(self, keep: BoolArray) -> "ItemEvents":
        """The events that `keep` marks."""
        return ItemEvents(
            item=self.item[keep], columns={n: values[keep] for n, values in self.columns.items()}
        )

    def rank(self) -> Int64Array:
        """The place of each event among those of its item, from 0."""
        return np.arange(len(self.item)) - np.searchsorted(self.item, self.item, "left")

    def columns_at(self, index: Int64Array) -> dict[str, Int64Array]:
        """The columns of the events at `index`; see `values_at`."""
        return {name: values_at(values, index) for name, values in self.columns.items()}


def values_at(column: Int64Array, index: Int64Array) -> Int64Array:
    """The column at `index`; HIGHEST (never known, not set) for -1."""
    values = np.full(len(index), HIGHEST, np.int64)
    exists = index >= 0
    values[exists] = column[index[exists]]
    return values


def runs(*keys: Int64Array) -> Int64Array:
    """Where runs of equal keys begin in sorted keys."""
    new = np.ones(len(keys[0]), bool)
    new[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return np.flatnonzero(new)


def run_numbers(starts: Int64Array, n: int) -> Int64Array:
    """The number of the run that each of `n` sorted keys is in."""
    return np.repeat(np.arange(len(starts)), np.diff(np.append(starts, n)))


def has_several(known: Int64Array, starts: Int64Array) -> bool:
    """Whether an item, a run of rows, has two events of a type."""
    events = np.add.reduceat((known != HIGHEST).astype(np.int64), starts)
    return bool(events.max(initial=0) > 1)


def events_of(item: Int64Array, columns: NamedColumns, names: Sequence[str]) -> ItemEvents:
    """The events of the type with these columns; of those known at one moment the smaller values.

    `item` ascends.
    """
    known = columns[names[0]]
    at = np.flatnonzero(known != HIGHEST)
    at = at[np.lexsort((known[at], item[at]))]
    starts = runs(item[at], known[at])
    if not len(at):
        return ItemEvents(item=item[at], columns={name: columns[name][at] for name in names})
    merged = {name: np.minimum.reduceat(columns[name][at], starts) for name in names}
    return ItemEvents(item=item[at][starts], columns=merged)


def openings_of(
    item: Int64Array, columns: NamedColumns, names: Sequence[str], *, place: str
) -> ItemEvents:
    """The openings that can ever count. `place`: the column of the item's time.

    Of those known at one moment the one with the earliest time counts first, and each has the
    smaller values of its own and of those with later times.
    """
    known = columns[names[0]]
    at = np.flatnonzero(known != HIGHEST)
    at = at[np.lexsort((columns[place][at], known[at], item[at]))]
    openings = ItemEvents(item=item[at], columns={name: columns[name][at] for name in names})
    if not len(at):
        return openings
    _share_smaller_values(openings, names)
    return openings.where(_later_than_all_before(openings.item, openings.columns[place]))


def in_rows(events: Sequence[ItemEvents]) -> tuple[Int64Array, dict[str, Int64Array]]:
    """The item and the columns of as few rows as hold all events: the first events of each type
    share a row, then the second ones. HIGHEST where a row has no event of a type."""
    ranks = [of_type.rank() for of_type in events]
    step = 1 + max(int(rank.max(initial=0)) for rank in ranks)
    places = [of_type.item * step + rank for of_type, rank in zip(events, ranks, strict=True)]
    rows = np.unique(np.concatenate(places))
    columns: dict[str, Int64Array] = {}
    for of_type, place in zip(events, places, strict=True):
        at = np.searchsorted(rows, place)
        for name, values in of_type.columns.items():
            columns[name] = np.full(len(rows), HIGHEST, np.int64)
            columns[name][at] = values
    return rows // step, columns


def earlier(place: Int64Array, memory_us: int) -> Int64Array:
    """So long before each time; UNSET where that is no time."""
    return np.maximum(place, UNSET + memory_us) - memory_us


def first_since(events: ItemEvents, item: Int64Array, since: Int64Array) -> Int64Array:
    """For each item the index of the first of its events known at `since` or later; -1: none."""
    if not len(events):
        return np.full(len(item), -1, np.int64)
    known = next(iter(events.columns.values()))
    index = Order(events.item, known).before(item, since)
    at = np.minimum(index, len(events) - 1)
    exists = (index < len(events)) & (events.item[at] == item)
    return np.where(exists, at, -1)


def ends_before(place: Int64Array, item: Int64Array, memory_us: int) -> Int64Array:
    """Until when the opening before each one counts; UNSET for the first of an item."""
    ends = np.full(len(item), UNSET, np.int64)
    again = np.flatnonzero(item[1:] == item[:-1]) + 1
    ends[again] = place[again - 1] + memory_us
    return ends


def _share_smaller_values(openings: ItemEvents, names: Sequence[str]) -> None:
    starts = runs(openings.item, openings.columns[names[0]])
    ends = np.append(starts[1:], len(openings))
    for run in np.flatnonzero(ends - starts > 1).tolist():
        own = slice(starts[run], ends[run])
        for name in names:
            values = openings.columns[name][own]
            openings.columns[name][own] = np.minimum.accumulate(values[::-1])[::-1]


def _later_than_all_before(item: Int64Array, place: Int64Array) -> BoolArray:
    """Which openings have a later time than all openings of their item before them."""
    rank = np.unique(place, return_inverse=True)[1]
    key = item * (len(place) + 1) + rank
    later = np.ones(len(key), bool)
    later[1:] = key[1:] > np.maximum.accumulate(key)[:-1]
    return later

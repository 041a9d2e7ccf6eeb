"""The rows that features are computed over: the same for the online state and for history."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from features.definitions.events import Columns, Int64Array

ColumnMaker = Callable[[Columns], Int64Array]


@dataclass(frozen=True, kw_only=True)
class PointInTimeRows:
    """What became known about entities, and when: a row is an event, or several merged into one.

    All arrays have one length. `group`: the entity, counted from 0. `row_key`: what the row is
    about within its entity: the event time in microseconds, or the digest of an item's id.
    `known_us`: when it became known; UNSET: before every query. `counts`: how many events the row
    stands for. `columns`: what the view keeps of them.
    """

    group: Int64Array
    row_key: Int64Array
    known_us: Int64Array
    counts: Int64Array
    columns: Mapping[str, Int64Array]

    def __len__(self) -> int:
        return len(self.group)

    def select(self, index: Int64Array, group: Int64Array) -> "PointInTimeRows":
        """The rows at `index`, in other groups."""
        return PointInTimeRows(
            group=group,
            row_key=self.row_key[index],
            known_us=self.known_us[index],
            counts=self.counts[index],
            columns={name: self.column_at(name, index) for name in self.columns},
        )

    def column_at(self, name: str, index: Int64Array) -> Int64Array:
        """A column of the rows at `index`; a lazy column is computed for these rows only."""
        if isinstance(self.columns, LazyColumns):
            return self.columns.column_at(name, index)
        return self.columns[name][index]


def joined(parts: Sequence[PointInTimeRows]) -> PointInTimeRows:
    """The rows of several kinds of events, which have the same columns."""
    if len(parts) == 1:
        return parts[0]
    return PointInTimeRows(
        group=np.concatenate([p.group for p in parts]),
        row_key=np.concatenate([p.row_key for p in parts]),
        known_us=np.concatenate([p.known_us for p in parts]),
        counts=np.concatenate([p.counts for p in parts]),
        columns={
            name: np.concatenate([p.columns[name] for p in parts]) for name in parts[0].columns
        },
    )


class LazyColumns(Mapping[str, Int64Array]):
    """Columns computed from events on each access, so that those of a large history are never all
    in memory at once."""

    def __init__(
        self, events: Columns, makers: Mapping[str, tuple[Sequence[str], ColumnMaker]]
    ) -> None:
        """`makers`: column -> the fields that it is computed from, and how."""
        self._events, self._makers = events, makers

    def column_at(self, name: str, index: Int64Array) -> Int64Array:
        """The column for the events at `index`."""
        fields, make = self._makers[name]
        return make({f: self._events[f][index] for f in fields})

    def __getitem__(self, name: str) -> Int64Array:
        fields, make = self._makers[name]
        return make({f: self._events[f] for f in fields})

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

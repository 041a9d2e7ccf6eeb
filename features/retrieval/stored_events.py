"""Events whose fields are read when they are needed: those of a wide history do not all fit into
memory at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from features.definitions import Columns, EventType
from features.retrieval.event_arrays import exact_arrays_in
from features.retrieval.field_sets import distinct

if TYPE_CHECKING:
    import polars as pl

CELLS_AT_ONCE = 30_000_000
"""Values of events that are in memory at once: 230 MiB of numbers."""


@dataclass(frozen=True, kw_only=True)
class StoredEvents:
    """Events of the offline store. `frame` has the times and fields that were read at once, `read`
    gives those of `later`, for the same rows in the same order."""

    event: EventType
    frame: pl.DataFrame
    later: tuple[str, ...] = ()
    read: Callable[[Sequence[str]], pl.DataFrame]

    def rearranged(self, by: Callable[[pl.DataFrame], pl.DataFrame]) -> StoredEvents:
        """The same for other rows of these: `by` takes them from each frame."""
        return replace(self, frame=by(self.frame), read=lambda names: by(self.read(names)))

    def select(self, fields: Sequence[str]) -> StoredEvents:
        """Only these, and the time when the events were known."""
        at_once = [n for n in distinct(("known_at_us",), fields) if n in self.frame.columns]
        return replace(
            self,
            frame=self.frame.select(at_once),
            later=tuple(name for name in fields if name in self.later),
        )

    def arrays(self) -> Columns:
        """The fields as the engine computes with them."""
        return _Arrays(self)


class _Arrays(Mapping[str, NDArray[Any]]):
    """Keeps the field that was used last. One that is missing is read together with those that
    follow it: formulas are computed in about this order, and some share a field."""

    def __init__(self, stored: StoredEvents) -> None:
        self._stored = stored
        self._names = (*stored.frame.columns, *stored.later)
        self._kept: dict[str, pl.Series] = {}
        self._read_at_once = max(1, CELLS_AT_ONCE // max(1, stored.frame.height) - 1)

    def __getitem__(self, name: str) -> NDArray[Any]:
        frame, event = self._stored.frame, self._stored.event
        if name in frame.columns:
            return exact_arrays_in(event, frame, (name,))[name]
        if name not in self._kept:
            self._read_from(name)
        self._kept[name] = column = self._kept.pop(name)  # used last
        return exact_arrays_in(event, column.to_frame(), (name,))[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def _read_from(self, name: str) -> None:
        later = self._stored.later
        for unused in list(self._kept)[:-1]:
            del self._kept[unused]
        following = [n for n in later[later.index(name) :] if n not in self._kept]
        self._kept |= self._stored.read(following[: self._read_at_once]).to_dict()

"""New rows for the values of one view, and how a store adds them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.definitions.events import Int64Array
from features.engine.state import ViewState


@dataclass(frozen=True, kw_only=True)
class ViewRows:
    """New delta rows of one view. `codes[i]` is the index in `entities` of the entity of
    `rows[i]`. `left_out`: how many events the view does not count, such as those that happened more
    than `ahead` before their time."""

    state: ViewState
    entities: Sequence[bytes]
    codes: Int64Array
    rows: NDArray[np.void]
    left_out: int = 0

    def by_entity(self) -> tuple[Sequence[bytes], list[bytes]]:
        """The entities that have rows, and the bytes of the rows of each, in order of arrival."""
        packed = self.rows[np.argsort(self.codes, kind="stable")].tobytes()
        counts = np.bincount(self.codes, minlength=len(self.entities))
        ends = np.cumsum(counts) * self.rows.dtype.itemsize
        rows = [packed[start:end] for start, end in pairwise([0, *ends.tolist()])]
        if counts.all():
            return self.entities, rows
        return [*compress(self.entities, rows)], [*filter(None, rows)]


def merge_rows(
    change: ViewRows,
    compacted_through_us: int,
    *,
    get: Callable[[Sequence[bytes]], Sequence[bytes | None]],
    put: Callable[[Sequence[bytes], Sequence[bytes]], Any],
) -> None:
    """Append a batch of delta rows to the values of their entities; compact those that are due.

    `get`, `put`: the values of entities.
    """
    state = change.state
    entities, rows = change.by_entity()
    values, due = state.append(get(entities), rows, entities)
    at = np.flatnonzero(due).tolist()
    if at:
        compacted = state.compact(
            [values[i] for i in at], [entities[i] for i in at], compacted_through_us
        )
        for i, value in zip(at, compacted, strict=True):
            values[i] = value
    put(entities, values)


def merge_into(values: dict[bytes, bytes], change: ViewRows, compacted_through_us: int) -> None:
    """`merge_rows` for values that are in a dictionary."""
    merge_rows(
        change,
        compacted_through_us,
        get=lambda entities: [*map(values.get, entities)],
        put=lambda entities, merged: values.update(zip(entities, merged, strict=True)),
    )

"""New rows for the values of one view, and how a store adds them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
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

    def by_entity(self) -> Iterator[tuple[bytes, bytes]]:
        """Each entity that has rows, with the bytes of its rows in the order of arrival."""
        packed = self.rows[np.argsort(self.codes, kind="stable")].tobytes()
        per_entity = np.bincount(self.codes, minlength=len(self.entities))
        ends = np.cumsum(per_entity) * self.rows.dtype.itemsize
        edges = pairwise([0, *ends.tolist()])
        for entity, (start, end) in zip(self.entities, edges, strict=True):
            if end > start:
                yield entity, packed[start:end]


def merge_rows(
    change: ViewRows,
    compacted_through_us: int,
    *,
    get: Callable[[bytes], bytes | None],
    put: Callable[[bytes, bytes], Any],
) -> None:
    """Append a batch of delta rows to the values of their entities; compact those that have
    grown."""
    state = change.state
    grown: list[tuple[bytes, bytes]] = []
    for entity, rows in change.by_entity():
        value, needs_compaction = state.append(get(entity), rows, entity)
        if needs_compaction:
            grown.append((entity, value))
        else:
            put(entity, value)
    if grown:
        entities, values = zip(*grown, strict=True)
        compacted = state.compact(values, entities, compacted_through_us)
        for entity, value in zip(entities, compacted, strict=True):
            put(entity, value)

"""Aggregations over windows that end at the time of the query."""

from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from features.definitions.aggregations import TimeWindow
from features.definitions.events import Float64Array, Int64Array
from features.definitions.views import FeatureView
from features.engine.aggregate_views import AggregateState
from features.engine.point_in_time import PointInTimeIndex
from features.engine.queries import PointInTimeQueries, SlidingWindow
from features.engine.rows import PointInTimeRows
from features.engine.sorting import UNSET, chunks, pairs
from features.engine.state import COMPACTION_SLACK
from features.engine.state_columns import codes, column_name
from features.engine.window_aggregates import RowsInWindow, SharedLookups


class WindowState(AggregateState):
    """The state of a `FeatureView`."""

    view: FeatureView

    def __init__(self, view: FeatureView, *, compaction_slack: int = COMPACTION_SLACK) -> None:
        super().__init__(
            view,
            *_hops(view),
            view.exclude_self,
            time_field="event_time_us",
            compaction_slack=compaction_slack,
        )

    def compute(self, rows: PointInTimeRows, queries: PointInTimeQueries) -> Float64Array:
        """Each aggregation over each of its windows."""
        values = self._values(rows, queries)
        if self.view.exclude_self is not None:
            self._exclude_own_events(values, rows, queries, self.view.exclude_self)
        return values

    def truncated_to_hop(
        self, rows: NDArray[np.void], compacted_through: Int64Array, /
    ) -> NDArray[np.void]:
        """A row moves back to the last moment at which a window of an allowed query can begin.

        Each window that can still begin at the row or before it allows the beginning of its own
        hop. The latest of these moments is the only one that all of them allow.
        """
        if not self._rounds_to_hops or not len(rows):
            return rows
        event_time = rows["row_key"]
        moved = np.full(len(rows), UNSET)
        for window in self.view.windows:
            within = event_time >= _sliding(window).start(compacted_through)
            hop_start = event_time - event_time % window.hop_us
            np.maximum(moved, hop_start, out=moved, where=within)
        rows = rows.copy()
        rows["row_key"] = np.where(moved == UNSET, event_time, moved)
        return rows

    @cached_property
    def _rounds_to_hops(self) -> bool:
        """Whether rows may move to the beginning of their hop: not where an operation uses the very
        time of an event, nor without hops."""
        hops = any(w.hop_us > 1 for w in self.view.windows)
        return hops and not any(a.definition.uses_event_time for a in self.view.aggregations)

    def _values(self, rows: PointInTimeRows, queries: PointInTimeQueries) -> Float64Array:
        values = np.empty((len(queries), len(self.view.features)), order="F")  # filled by columns
        shared = SharedLookups(PointInTimeIndex(rows, queries), self._sum_table)
        aggregates = {w: RowsInWindow(shared, _sliding(w)) for w in self.view.windows}
        for i, (a, _, window) in enumerate(self.view.parts):
            values[:, i] = a.definition.compute(aggregates[window], a.column or "")
        return values

    def _exclude_own_events(
        self,
        values: Float64Array,
        rows: PointInTimeRows,
        queries: PointInTimeQueries,
        field: str,
    ) -> None:
        """Compute again, in place, the queries whose rows hold events that share `field` with them.

        Each such query becomes a group of its own, with copies of the rows that count for it.
        """
        own = codes(queries.fields[field])
        row_codes = rows.columns[column_name("code", field)]
        candidates = np.flatnonzero(np.isin(own, row_codes) & (own != UNSET))
        if not len(candidates):
            return
        order = np.argsort(rows.group, kind="stable")
        group = rows.group[order]
        start = np.searchsorted(group, queries.group[candidates], "left")
        end = np.searchsorted(group, queries.group[candidates], "right")
        for a, b in chunks(end - start):
            which, place = pairs(start[a:b], end[a:b])
            index, query = order[place], candidates[a:b]
            foreign = row_codes[index] != own[query[which]]
            affected = np.flatnonzero(np.bincount(which[~foreign], minlength=b - a))
            counts = foreign & np.isin(which, affected)
            own_rows = rows.select(index[counts], which[counts])
            own_queries = queries.select(query[affected], affected)
            values[query[affected]] = self._values(own_rows, own_queries)


def _sliding(window: TimeWindow) -> SlidingWindow:
    return SlidingWindow(length_us=window.length_us, hop_us=window.hop_us)


def _hops(view: FeatureView) -> tuple[object, ...]:
    """What the stored values of a view depend on because of its hops.

    Until 0.1 rows moved too far where a longer window has a finer hop: those values are of another
    declaration.
    """
    hops = [(w.length_us, w.hop_us) for w in view.windows]
    if all(hop == 1 for _, hop in hops):
        return ((),)
    rise = all(longer % shorter == 0 for (_, shorter), (_, longer) in pairwise(hops))
    return (hops,) if rise else (hops, "moved as far as every window allows")

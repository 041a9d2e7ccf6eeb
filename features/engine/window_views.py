"""Aggregations over windows that end at the time of the query."""

from functools import cached_property

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
        hops = [(w.length_us, w.hop_us) for w in view.windows]
        super().__init__(
            view,
            hops if any(hop > 1 for _, hop in hops) else (),
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
        """A row moves to the beginning of the hop of the shortest window that can still reach it.
        Longer windows begin there or at one of its multiples, for hops divide each other."""
        if not self._rounds_to_hops or not len(rows):
            return rows
        rows = rows.copy()
        event_time = rows["row_key"].copy()
        for window in reversed(self.view.windows):
            within = event_time >= _sliding(window).start(compacted_through)
            hop_start = event_time - event_time % window.hop_us
            rows["row_key"] = np.where(within, hop_start, rows["row_key"])
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

"""Aggregations over windows that end at the time of the query."""

from collections.abc import Callable, Iterator
from functools import cache, cached_property, partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from features.definitions.aggregations import TimeWindow
from features.definitions.events import Float64Array, Int64Array
from features.definitions.views import FeatureView
from features.engine.aggregate_views import AggregateState
from features.engine.other_rows import (
    LookupsAmongOthers,
    OthersInWindow,
    queries_with_own_rows,
)
from features.engine.point_in_time import PointInTimeIndex
from features.engine.queries import PointInTimeQueries, SlidingWindow
from features.engine.rows import PointInTimeRows
from features.engine.selections import newest_rows
from features.engine.sorting import UNSET
from features.engine.state_columns import codes, column_name
from features.engine.value_limits import DEFAULT_LIMITS, ValueLimits
from features.engine.window_aggregates import RowsInWindow, SharedLookups, SumTable

SUMS_AT_ONCE = 2_000_000
"""Cells of a table that is added up: it and its sums are in memory four times."""


class WindowState(AggregateState):
    """The state of a `FeatureView`."""

    view: FeatureView

    def __init__(self, view: FeatureView, *, value_limits: ValueLimits = DEFAULT_LIMITS) -> None:
        super().__init__(
            view,
            *_hops(view),
            view.exclude_self,
            time_field="event_time_us",
            value_limits=value_limits,
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
        index = PointInTimeIndex(rows, queries)
        newest = cache(partial(newest_rows, index))
        return self._values_of(index, lambda table: SharedLookups(index, table, newest))

    def _values_of(
        self,
        index: PointInTimeIndex,
        lookups: Callable[[SumTable], SharedLookups],
        over: type[RowsInWindow] = RowsInWindow,
    ) -> Float64Array:
        """Each feature of each query; of many rows only some columns are added up at once."""
        shape = len(index.queries), len(self.view.features)
        values = np.empty(shape, order="F")  # filled by columns
        for columns, places in self._added_at_once(len(index.rows)):
            shared = lookups(self._sum_table.only(columns))
            aggregates = {w: over(shared, _sliding(w)) for w in self.view.windows}
            for i in places:
                a, _, window = self.view.parts[i]
                values[:, i] = a.definition.compute(aggregates[window], a.column or "")
        return values

    def _added_at_once(self, rows: int) -> Iterator[tuple[tuple[str, ...], list[int]]]:
        """(columns that are added up together, places of the features that are computed then)."""
        added, at_once = self._sum_table.added, max(1, SUMS_AT_ONCE // max(1, rows))
        for first in range(0, max(1, len(added)), at_once):
            columns = added[first : first + at_once]
            yield (
                columns,
                [
                    i
                    for i, (a, _, _) in enumerate(self.view.parts)
                    if a.column in columns or (first == 0 and a.column not in added)
                ],
            )

    def _exclude_own_events(
        self,
        values: Float64Array,
        rows: PointInTimeRows,
        queries: PointInTimeQueries,
        field: str,
    ) -> None:
        """Compute again, in place, the queries that know a row which shares `field` with them."""
        own = codes(queries.fields[field])
        row_codes = rows.columns[column_name("code", field)]
        affected = queries_with_own_rows(rows, row_codes, queries, own)
        if not len(affected):
            return
        affected_queries = queries.select(affected, queries.group[affected])
        near = np.flatnonzero(np.isin(rows.group, affected_queries.group))
        index = PointInTimeIndex(rows.select(near, rows.group[near]), affected_queries)
        row_codes, own = row_codes[near], own[affected]
        values[affected] = self._values_of(
            index, lambda table: LookupsAmongOthers(index, table, row_codes, own), OthersInWindow
        )


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

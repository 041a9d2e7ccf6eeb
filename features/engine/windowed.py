"""Views over events that are placed in time: windows behind a question, spans that it names."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from features.definitions.aggregations import OF_ADDED_COLUMNS, TIMED, Aggregation, TimeWindow
from features.definitions.events import (
    BoolArray,
    Column,
    Columns,
    EventType,
    Float64Array,
    Int64Array,
)
from features.definitions.views import CalendarView, FeatureView
from features.engine.checks import nullify_invalid, required_fields
from features.engine.columns import array_of, kinds
from features.engine.digests import digests
from features.engine.numbers import fingerprint, from_sortable, sortable, whole
from features.engine.point_in_time import (
    LazyColumns,
    Maker,
    PointInTimeIndex,
    PointInTimeQueries,
    Rows,
    SelectedRows,
    SlidingWindow,
    WindowSums,
)
from features.engine.sorting import HIGHEST, UNSET, chunks, pairs
from features.engine.state import ViewState, merged_columns
from features.errors import DeclarationError
from infra.clock import MINUTE, span_us

LaneKind = Literal["sum", "number", "lowest", "highest", "code"]
_COMBINE: Mapping[LaneKind, np.ufunc] = {
    "sum": np.add,
    "number": np.add,
    "lowest": np.minimum,
    "highest": np.maximum,
}
_KEPT_BY: Mapping[str, tuple[LaneKind, ...]] = {
    "sum": ("sum",),
    "mean": ("sum",),
    "rate": ("sum",),
    "min": ("lowest",),
    "max": ("highest",),
    "first": ("lowest",),
    "last": ("highest",),
    "change": ("lowest", "highest"),
    "distinct": ("code",),
}


@dataclass(frozen=True)
class _Lane:
    """One int64 column that is kept of an event, and how those of merged rows are combined.

    sum: whole numbers, added. number: 1 where the sum has a value. lowest, highest: numbers that
    sort (`sortable`), of which the smaller or larger stays. code: rows of different ones are never
    merged.
    """

    kind: LaneKind
    of: str  # a declared column or a field

    @property
    def name(self) -> str:
        """Such as `sum:delay`."""
        return f"{self.kind}:{self.of}"


class _OverTime(ViewState):
    """What both kinds of views have in common: lanes, and sums over them."""

    view: FeatureView | CalendarView

    def __init__(self, view: FeatureView | CalendarView, *more: object) -> None:
        self._declared = {c.name: c for c in view.columns}
        self._kinds = kinds(view.source.record)
        self._lanes = _lanes(view, self._declared)
        used = [self._declared[lane.of] for lane in self._lanes if lane.of in self._declared]
        formulas = [(c.name, c.reads, c.scale, fingerprint(c.compute)) for c in used]
        super().__init__(view, [lane.name for lane in self._lanes], [formulas, *more])
        self._check_declaration()

    def fields(self, event: EventType) -> tuple[str, ...]:
        """See the base class."""
        read = ["event_time_us"]
        for lane in self._lanes:
            column = self._declared.get(lane.of)
            read += [lane.of] if column is None else column.reads
        return required_fields(event, (*read, *self._placed_by()))

    def kept(self, event: EventType, events: Columns, known_at_us: Int64Array) -> Rows:
        """See the base class."""
        events = nullify_invalid(event, events)
        n = len(known_at_us)
        return Rows(
            group=np.arange(n),
            label_us=self._labels(events),
            known_us=known_at_us,
            counts=np.broadcast_to(np.int64(1), n),
            columns=LazyColumns(events, {lane.name: self._maker(lane) for lane in self._lanes}),
        )

    def merge_key_columns(self) -> tuple[str, ...]:
        """See the base class."""
        return tuple(lane.name for lane in self._lanes if lane.kind == "code")

    def merged(self, rows: NDArray[np.void], starts: Int64Array) -> NDArray[np.void]:
        """See the base class."""
        combine = {a.name: _COMBINE[a.kind] for a in self._lanes if a.kind != "code"}
        return merged_columns(rows, starts, {"count": np.add, **combine})

    def reachable(self, rows: NDArray[np.void], compacted_through: Int64Array) -> BoolArray:
        """See the base class."""
        found: BoolArray = rows["label"] >= compacted_through - self.view.reach_us
        return found

    def _labels(self, events: Columns) -> Int64Array:
        raise NotImplementedError

    def _placed_by(self) -> tuple[str, ...]:
        return ()

    def _table(self, rows: Rows) -> tuple[Int64Array, dict[str, int]]:
        """Counts and sums as one table, and where each lane stands in it."""
        added = [lane.name for lane in self._lanes if lane.kind in ("sum", "number")]
        table = np.column_stack([rows.counts, *(rows.columns[name] for name in added)])
        return table, {name: i + 1 for i, name in enumerate(added)}

    def _added(self, a: Aggregation, totals: Int64Array, where: Mapping[str, int]) -> NDArray[Any]:
        """count, sum, mean or rate from the sums of the table."""
        if a.operation == "count":
            return totals[:, 0]
        column = self._declared[str(a.column)]
        total = totals[:, where[f"sum:{column.name}"]]
        scaled = total if column.scale is None else total / column.scale
        if a.operation == "sum":
            return scaled
        count = totals[:, where.get(f"number:{column.name}", 0)]
        return np.where(count > 0, scaled / np.maximum(count, 1), np.nan)

    def _maker(self, lane: _Lane) -> tuple[Sequence[str], Maker]:
        column = self._declared.get(lane.of)
        make = partial(_lane_values, lane.kind, column, lane.of)
        return (lane.of,) if column is None else column.reads, make

    def _check_declaration(self) -> None:
        name = self.view.name
        for key in self.view.entity.keys:
            if self._kinds[key] == "float":
                raise DeclarationError(f"view {name}: key {key!r} is a float")
        for lane in self._lanes:
            column = self._declared.get(lane.of)
            if column is None:
                if lane.kind != "code" and self._kinds[lane.of] == "text":
                    raise DeclarationError(f"view {name}: {lane.of!r} is text, not a number")
            else:
                _check_column(name, column, self._kinds, added=lane.kind == "sum")


class WindowState(_OverTime):
    """The state and the answers of a `FeatureView`."""

    view: FeatureView

    def __init__(self, view: FeatureView) -> None:
        hops = [(w.length_us, w.hop_us) for w in view.windows]
        super().__init__(view, hops if any(hop > 1 for _, hop in hops) else (), view.exclude_self)

    @cached_property
    def coarse(self) -> bool:
        """Whether rows may be moved to the beginning of their hop: not where the moment of an
        event is asked for, nor where every microsecond is told apart anyway."""
        hops = any(w.hop_us > 1 for w in self.view.windows)
        return hops and not any(a.operation in TIMED for a in self.view.aggregations)

    def answers(self, rows: Rows, questions: PointInTimeQueries) -> Float64Array:
        """See the base class."""
        values = self._values(rows, questions)
        if self.view.exclude_self is not None:
            self._without_own(values, rows, questions, self.view.exclude_self)
        return values

    def truncated_to_hop(
        self, rows: NDArray[np.void], compacted_through: Int64Array, /
    ) -> NDArray[np.void]:
        """See the base class: a row moves to the beginning of the hop of the shortest window that
        can still reach it; longer windows have the same edge there, for hops divide each other."""
        if not self.coarse or not len(rows):
            return rows
        rows = rows.copy()
        label = rows["label"].copy()
        for window in reversed(self.view.windows):
            within = label >= _moving(window).edge(compacted_through)
            rows["label"] = np.where(within, label - label % window.hop_us, rows["label"])
        return rows

    def _labels(self, events: Columns) -> Int64Array:
        return np.asarray(events["event_time_us"], np.int64)

    def _values(self, rows: Rows, questions: PointInTimeQueries) -> Float64Array:
        out = np.empty((len(questions), len(self.view.features)), order="F")  # filled by columns
        found = _Found(PointInTimeIndex(rows, questions), partial(self._table, rows))
        for i, (a, _, window) in enumerate(self.view.parts):
            out[:, i] = self._feature(a, window, found)
        return out

    def _feature(self, a: Aggregation, window: TimeWindow, found: "_Found") -> NDArray[Any]:
        if a.operation == "count" or a.operation in OF_ADDED_COLUMNS:
            return self._added(a, found.totals(window), found.where)
        if a.operation in ("last", "since_last"):
            return found.newest(window, a.column)
        if a.operation in ("first", "since_first"):
            return found.oldest(window, a.column)
        if a.operation == "change":
            return found.newest(window, a.column) - found.oldest(window, a.column)
        if a.operation == "distinct":
            return found.distinct(window, f"code:{a.column}")
        return found.extreme(window, str(a.column), largest=a.operation == "max")

    def _without_own(
        self,
        values: Float64Array,
        rows: Rows,
        questions: PointInTimeQueries,
        field: str,
    ) -> None:
        """Answer anew, in place, what has own events among its rows: each such question becomes a
        group of its own, with copies of the rows that it may see."""
        own = _codes(questions.fields[field])
        table = rows.columns[f"code:{field}"]
        suspects = np.flatnonzero(np.isin(own, table) & (own != UNSET))
        if not len(suspects):
            return
        order = np.argsort(rows.group, kind="stable")
        group = rows.group[order]
        start = np.searchsorted(group, questions.group[suspects], "left")
        end = np.searchsorted(group, questions.group[suspects], "right")
        for a, b in chunks(end - start):
            which, at = pairs(start[a:b], end[a:b])
            index, asked = order[at], suspects[a:b]
            foreign = table[index] != own[asked[which]]
            touched = np.flatnonzero(np.bincount(which[~foreign], minlength=b - a))
            seen = foreign & np.isin(which, touched)
            private = rows.at(index[seen], which[seen])
            again = questions.at(asked[touched], touched)
            values[asked[touched]] = self._values(private, again)


class CalendarState(_OverTime):
    """The state and the answers of a `CalendarView`."""

    view: CalendarView

    def answers(self, rows: Rows, questions: PointInTimeQueries) -> Float64Array:
        """See the base class."""
        asked = PointInTimeIndex(rows, questions)
        table, where = self._table(rows)
        totals, within = [], []
        for span in self.view.spans:
            start, end = span.start(questions.fields), span.end(questions.fields)
            totals.append(asked.sums_between(table, start, np.maximum(start, end)))
            within.append(start >= questions.as_of_us - self.view.reach_us)
        values = [
            np.where(w, self._added(a, t, where), np.nan)
            for a in self.view.aggregations
            for t, w in zip(totals, within, strict=True)
        ]
        return np.column_stack(values)

    def kept(self, event: EventType, events: Columns, known_at_us: Int64Array) -> Rows:
        """See the base class: what was told too far ahead does not count."""
        rows = super().kept(event, events, known_at_us)
        ahead = rows.label_us - np.asarray(events["event_time_us"], np.int64)
        near = np.flatnonzero(ahead <= span_us(self.view.ahead))
        return rows if len(near) == len(rows) else rows.at(near, near)

    def _labels(self, events: Columns) -> Int64Array:
        return np.asarray(events[self.view.at], np.int64)

    def _placed_by(self) -> tuple[str, ...]:
        return (self.view.at,)


class _Found:
    """What several features share, found once."""

    def __init__(
        self, asked: PointInTimeIndex, table: Callable[[], tuple[Int64Array, Mapping[str, int]]]
    ) -> None:
        self.asked, self._make_table = asked, table
        self._as_of = asked.questions.as_of_us
        self._totals: dict[TimeWindow, Int64Array] = {}
        self._inside: dict[TimeWindow, BoolArray] = {}
        self._oldest: dict[TimeWindow, SelectedRows] = {}

    def totals(self, window: TimeWindow) -> Int64Array:
        """The sums of the table over a window."""
        if window not in self._totals:
            self._totals[window] = self._sums.over(_moving(window))
        return self._totals[window]

    def newest(self, window: TimeWindow, column: str | None) -> Float64Array:
        """`last` of a column, or the minutes since then."""
        pick, inside = self._newest, self._newest_within(window)
        if column is None:
            return np.where(inside, (self._as_of - pick.label_us) / MINUTE, np.nan)
        return np.where(inside, from_sortable(pick.max_of(f"highest:{column}")), np.nan)

    def oldest(self, window: TimeWindow, column: str | None) -> Float64Array:
        """`first` of a column, or the minutes since then."""
        pick = self._oldest_within(window)
        if column is None:
            return np.where(pick.there, (self._as_of - pick.label_us) / MINUTE, np.nan)
        # Turned over, the smallest is the largest; nothing (HIGHEST) then is UNSET.
        return from_sortable(~pick.max_of(f"lowest:{column}", turned=True))

    def extreme(self, window: TimeWindow, column: str, *, largest: bool) -> Float64Array:
        """`max` or `min` of a column."""
        lane = self.asked.rows.columns[f"{'highest' if largest else 'lowest'}:{column}"]
        ranked = ~lane if largest else lane
        pick = self.asked.lowest(ranked, _moving(window).edge(self._as_of))
        if not len(lane):
            return np.full(len(pick), np.nan)
        return from_sortable(np.where(pick >= 0, lane[pick], UNSET))

    def distinct(self, window: TimeWindow, lane: str) -> Int64Array:
        """How many different codes."""
        return self.asked.distinct(self.asked.rows.columns[lane], _moving(window))

    @property
    def where(self) -> Mapping[str, int]:
        """Where each lane stands in the table."""
        return self._table[1]

    @cached_property
    def _table(self) -> tuple[Int64Array, Mapping[str, int]]:
        return self._make_table()

    @cached_property
    def _sums(self) -> WindowSums:
        return self.asked.sums(self._table[0])

    @cached_property
    def _newest(self) -> SelectedRows:
        return self.asked.newest()

    def _newest_within(self, window: TimeWindow) -> BoolArray:
        if window not in self._inside:
            edge = _moving(window).edge(self._as_of)
            self._inside[window] = self._newest.there & (self._newest.label_us >= edge)
        return self._inside[window]

    def _oldest_within(self, window: TimeWindow) -> SelectedRows:
        if window not in self._oldest:
            self._oldest[window] = self.asked.oldest(_moving(window).edge(self._as_of))
        return self._oldest[window]


def _moving(window: TimeWindow) -> SlidingWindow:
    return SlidingWindow(length_us=window.length_us, hop_us=window.hop_us)


def _lanes(view: FeatureView | CalendarView, declared: Mapping[str, Column]) -> tuple[_Lane, ...]:
    lanes = []
    for a in view.aggregations:
        for kind in _KEPT_BY.get(a.operation, ()):
            lanes.append(_Lane(kind, str(a.column)))
            if kind == "sum" and declared[str(a.column)].scale is not None:
                lanes.append(_Lane("number", str(a.column)))
    if isinstance(view, FeatureView) and view.exclude_self is not None:
        lanes.append(_Lane("code", view.exclude_self))
    return tuple(dict.fromkeys(lanes))


def _lane_values(kind: LaneKind, column: Column | None, of: str, events: Columns) -> Int64Array:
    if kind == "code" and column is None:
        return _codes(events[of])
    values = events[of] if column is None else column.compute(events)
    if column is not None and column.scale is not None:
        if kind in ("sum", "number"):
            there = ~np.isnan(values)
            rounded = np.where(there, np.rint(values * column.scale), 0)
            return whole(there if kind == "number" else rounded)
        values = np.rint(values * column.scale) / column.scale
    if kind == "sum":
        return whole(values)
    return sortable(values, missing=HIGHEST if kind == "lowest" else UNSET)


def _codes(values: NDArray[Any]) -> Int64Array:
    """Texts and numbers as codes; UNSET for null."""
    return digests(values) if values.dtype == object else sortable(values)


def _check_column(
    view: str, column: Column, field_kinds: Mapping[str, Any], *, added: bool
) -> None:
    nothing = {f: array_of((), field_kinds[f]) for f in column.reads}
    kind = np.asarray(column.compute(nothing)).dtype.kind
    if added and column.scale is None and kind not in "iub":
        raise DeclarationError(
            f"view {view}: column {column.name!r} is not of whole numbers: sums of floats depend on"
            " the order of addition, so choose a unit that makes it whole, or give it a scale"
        )

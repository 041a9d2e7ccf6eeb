"""Views over items that several events report on: which are open, and which one came before.

A row is an item, and its key is the digest of the item's id. Each type of event sets columns of
its own, and when they became known. So the rows of an item can be merged at any time and in any
order: its closing may be known before its opening. An item with several events of one type has
several rows, as far as each of them may count (see `item_events`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.definitions.events import BoolArray, Columns, EventType, Float64Array, Int64Array
from features.definitions.lifecycle_views import (
    ItemValue,
    LifecycleView,
    OpenView,
    PreviousView,
)
from features.engine.columns import kinds, may_be_wide
from features.engine.formulas import floats, run
from features.engine.intervals import last_existing
from features.engine.item_events import (
    ItemEvents,
    earlier,
    ends_before,
    events_of,
    first_since,
    has_several,
    in_rows,
    openings_of,
    run_numbers,
    runs,
    values_at,
)
from features.engine.numbers import (
    as_formula_inputs,
    from_sortable,
    integers_of_codes,
    sortable,
    whole,
)
from features.engine.queries import PointInTimeQueries
from features.engine.rows import PointInTimeRows
from features.engine.sorting import HIGHEST, UNSET, Order, running
from features.engine.state import ViewState
from features.engine.state_columns import codes
from features.engine.value_limits import DEFAULT_LIMITS, ValueLimits
from features.engine.wrapping import Inputs
from features.errors import DeclarationError
from infra.clock import MINUTE, span_us

OPENED, CLOSED, ORDER = "known:opened", "known:closed", "order"
AFTER = "after"  # not stored: until when another opening of the item counts


class LifecycleState(ViewState):
    """How the rows of one item are merged and dropped.

    HIGHEST in a `known:` column: not known yet; in another column: not set. UNSET: null.
    """

    view: LifecycleView

    def __init__(
        self,
        view: LifecycleView,
        columns_by_known: Mapping[str, Sequence[str]],
        *dependencies: object,
        value_limits: ValueLimits,
    ) -> None:
        """`columns_by_known`: the column that says when a type of event became known -> the columns
        that the event sets."""
        self._columns_by_known = columns_by_known
        super().__init__(
            view,
            [c for known, columns in columns_by_known.items() for c in (known, *columns)],
            [view.item, span_us(view.ahead), *dependencies, *_wide_codes(view)],
            value_limits=value_limits,
        )

    def compactable(self, deltas: NDArray[np.void], _compacted_through: Int64Array, /) -> BoolArray:
        """Every row: a merged row still says when each of its parts became known."""
        return np.ones(len(deltas), bool)

    def merge_runs(self, rows: NDArray[np.void], starts: Int64Array) -> NDArray[np.void]:
        """The parts of an item that has at most one event of each type."""
        merged: NDArray[np.void] = rows[starts].copy()
        merged["count"] = np.add.reduceat(rows["count"], starts)
        for name, values in self._single_events(rows, starts).items():
            merged[name] = values
        return merged

    def reachable(self, rows: NDArray[np.void], compacted_through: Int64Array) -> BoolArray:
        """Rows with a part that can count: an opening by the item's time, others by when they
        became known."""
        memory_us = self.view.memory_us
        reachable: BoolArray = rows[OPENED] != HIGHEST
        reachable &= rows[ORDER] >= compacted_through - memory_us
        oldest = compacted_through - memory_us - self.view.reach_us
        for known in self._columns_by_known:
            if known != OPENED:
                reachable |= (rows[known] != HIGHEST) & (rows[known] >= oldest)
        return reachable

    def _merged(
        self, rows: NDArray[np.void], group: Int64Array
    ) -> tuple[NDArray[np.void], Int64Array]:
        """One row an item; several where it has several events of a type that may count."""
        if not len(rows):
            return rows, group
        order = np.lexsort((rows["row_key"], group))
        ordered, starts = rows[order], runs(group[order], rows["row_key"][order])
        if not any(has_several(ordered[known], starts) for known in self._columns_by_known):
            return self.merge_runs(ordered, starts), group[order][starts]
        item = run_numbers(starts, len(rows))
        events = [self._events(item, ordered, known) for known in self._columns_by_known]
        of_item, columns = in_rows(events)
        merged = np.zeros(len(of_item), self.format.base_row)
        merged["row_key"], merged["count"] = ordered["row_key"][starts[of_item]], 1
        for name, values in columns.items():
            merged[name] = values
        return merged, group[order][starts[of_item]]

    def _openings(self, rows: PointInTimeRows) -> PointInTimeRows:
        """One row for each opening that can count, with the events that count for it.

        `known_us`: when it became known. The column `AFTER`: until when another one counts.
        """
        order = np.lexsort((rows.row_key, rows.group))
        group, item = rows.group[order], rows.row_key[order]
        columns = {name: rows.columns[name][order] for name in self.columns}
        starts = runs(group, item)
        if any(has_several(columns[known], starts) for known in self._columns_by_known):
            first, columns = self._several_openings(starts, columns)
        else:
            first, columns = self._single_openings(starts, columns)
        return PointInTimeRows(
            group=group[first],
            row_key=item[first],
            known_us=columns[OPENED],
            counts=np.ones(len(first), np.int64),
            columns=columns,
        )

    def _single_openings(
        self, starts: Int64Array, columns: Mapping[str, Int64Array]
    ) -> tuple[Int64Array, dict[str, Int64Array]]:
        """The first row of each opened item, and the columns of its events: one of each type."""
        single = self._single_events(columns, starts) if len(starts) else dict(columns)
        opened = np.flatnonzero(single[OPENED] != HIGHEST)
        single = {name: values[opened] for name, values in single.items()}
        since = earlier(single[ORDER], self.view.memory_us)
        for known, names in self._columns_by_known.items():
            early = single[known] < since
            if known != OPENED and early.any():
                for name in (known, *names):
                    single[name][early] = HIGHEST
        return starts[opened], {**single, AFTER: np.full(len(opened), UNSET, np.int64)}

    def _several_openings(
        self, starts: Int64Array, columns: Mapping[str, Int64Array]
    ) -> tuple[Int64Array, dict[str, Int64Array]]:
        """The first row of the item of each opening, and the columns of the events that count."""
        item = run_numbers(starts, len(columns[OPENED]))
        openings = self._events(item, columns, OPENED)
        since = earlier(openings.columns[ORDER], self.view.memory_us)
        columns_of_item = dict(openings.columns)
        for known in self._columns_by_known:
            if known != OPENED:
                events = self._events(item, columns, known)
                columns_of_item |= events.columns_at(first_since(events, openings.item, since))
        columns_of_item[AFTER] = ends_before(
            openings.columns[ORDER], openings.item, self.view.memory_us
        )
        return starts[openings.item], columns_of_item

    def _events(
        self, item: Int64Array, columns: Mapping[str, Int64Array] | NDArray[np.void], known: str
    ) -> ItemEvents:
        names = (known, *self._columns_by_known[known])
        if known == OPENED:
            return openings_of(item, columns, names, place=ORDER)
        return events_of(item, columns, names)

    def _single_events(
        self, columns: Mapping[str, Int64Array] | NDArray[np.void], starts: Int64Array
    ) -> dict[str, Int64Array]:
        """For each run the columns of its events, at most one of each type."""
        return {name: np.minimum.reduceat(columns[name], starts) for name in self.columns}

    def _announced_in_time(
        self, event: EventType, events: Columns, rows: PointInTimeRows
    ) -> PointInTimeRows:
        """The rows without openings that happened more than `ahead` before the item's time, or that
        do not say it."""
        if event != self.view.opened:
            return rows
        latest = np.asarray(events["event_time_us"], np.int64) + span_us(self.view.ahead)
        place = rows.columns[ORDER]
        near = np.flatnonzero((place != UNSET) & (place <= latest[rows.group]))
        return rows if len(near) == len(rows) else rows.select(near, rows.group[near])

    def _null_columns(self, n: int) -> dict[str, Int64Array]:
        """The columns of `n` rows before any event sets them."""
        return {name: np.full(n, HIGHEST, np.int64) for name in self.columns}

    def _item_rows(
        self, events: Columns, known_at_us: Int64Array, columns: dict[str, Int64Array]
    ) -> PointInTimeRows:
        """One row for each event that names an item."""
        n = len(known_at_us)
        rows = PointInTimeRows(
            group=np.arange(n),
            row_key=codes(events[self.view.item]),
            known_us=known_at_us,
            counts=np.ones(n, np.int64),
            columns=columns,
        )
        named = np.flatnonzero(rows.row_key != UNSET)
        return rows if len(named) == n else rows.select(named, named)


class OpenState(LifecycleState):
    """The state of an `OpenView`."""

    view: OpenView

    def __init__(self, view: OpenView, *, value_limits: ValueLimits = DEFAULT_LIMITS) -> None:
        columns: Mapping[str, Sequence[str]] = {OPENED: (ORDER,), CLOSED: ()}
        super().__init__(view, columns, view.due, value_limits=value_limits)

    def fields(self, event: EventType) -> tuple[str, ...]:
        """The item, and when it is due."""
        due = (self.view.due, "event_time_us") if event == self.view.opened else ()
        return (self.view.item, *due)

    def rows_of(
        self, event: EventType, events: Columns, known_at_us: Int64Array
    ) -> PointInTimeRows:
        """When each event's item was opened and is due, or that it was closed."""
        columns = self._null_columns(len(known_at_us))
        if event == self.view.opened:
            columns[OPENED] = known_at_us
            columns[ORDER] = whole(events[self.view.due])
        else:
            columns[CLOSED] = known_at_us
        rows = self._item_rows(events, known_at_us, columns)
        return self._announced_in_time(event, events, rows)

    def compute(self, rows: PointInTimeRows, queries: PointInTimeQueries) -> Float64Array:
        """An item is open for every t with `begin < t <= end`: so what is open at t is what began
        before t minus what ended before t."""
        items = self._openings(rows)
        due = items.columns[ORDER]
        begin = np.maximum(np.maximum(items.known_us, due), items.columns[AFTER])
        end = np.minimum(items.columns[CLOSED], due + self.view.reach_us)
        ever_open = np.flatnonzero(end > begin)
        # Counted from the first due time: a sum of times since 1970 could overflow.
        origin = int(due.min(initial=HIGHEST)) if len(due) else 0
        table = np.column_stack([np.ones(len(ever_open), np.int64), due[ever_open] - origin])
        group = items.group[ever_open]
        open_now = _sums_before(group, begin[ever_open], table, queries)
        open_now -= _sums_before(group, end[ever_open], table, queries)
        count, due_sum = open_now[:, 0], open_now[:, 1]
        waited = count * (queries.as_of_us - origin) - due_sum
        mean = np.where(count > 0, waited / np.maximum(count, 1) / MINUTE, np.nan)
        values = {"count": count.astype(np.float64), "mean_minutes": mean}
        return np.column_stack([values[feature] for feature in self.view.gives])


class PreviousState(LifecycleState):
    """The state of a `PreviousView`."""

    view: PreviousView

    def __init__(self, view: PreviousView, *, value_limits: ValueLimits = DEFAULT_LIMITS) -> None:
        self._fields_kept: dict[EventType, tuple[str, ...]] = dict(view.keeps)
        columns = {
            _known_column(view, event): (
                *((ORDER,) if event == view.opened else ()),
                *(f"{event.name}.{field}" for field in self._fields_kept.get(event, ())),
            )
            for event in view.sources
        }
        super().__init__(view, columns, view.order, value_limits=value_limits)
        for event, fields in view.keeps:
            for field in fields:
                if kinds(event.record)[field] == "text":
                    raise DeclarationError(f"view {view.name}: {field!r} is text, not a number")

    def fields(self, event: EventType) -> tuple[str, ...]:
        """The item, its place in the order, and the fields that the view keeps."""
        order = (self.view.order, "event_time_us") if event == self.view.opened else ()
        kept = self._fields_kept.get(event, ())
        return tuple(dict.fromkeys((self.view.item, *order, *kept)))

    def rows_of(
        self, event: EventType, events: Columns, known_at_us: Int64Array
    ) -> PointInTimeRows:
        """One row an event: when it became known, and the fields that it sets."""
        columns = self._null_columns(len(known_at_us))
        columns[_known_column(self.view, event)] = known_at_us
        if event == self.view.opened:
            columns[ORDER] = whole(events[self.view.order])
        for field in self._fields_kept.get(event, ()):
            columns[f"{event.name}.{field}"] = sortable(events[field])
        rows = self._item_rows(events, known_at_us, columns)
        return self._announced_in_time(event, events, rows)

    def compute(self, rows: PointInTimeRows, queries: PointInTimeQueries) -> Float64Array:
        """The values of the item that each query looks up."""
        items = self._openings(rows)
        before = whole(queries.fields[self.view.before])
        previous = self._previous_items(items, queries, before)
        item = self._known_values(items, previous, queries.as_of_us)
        request = {**as_formula_inputs(queries.fields), "as_of_us": queries.as_of_us}
        return np.column_stack([self._value(v, item, request) for v in self.view.values])

    def _value(self, value: ItemValue, item: Columns, request: Columns) -> Float64Array:
        """The value of the item of each query."""
        name, n = f"{self.view.name}.{value.name}", len(request["as_of_us"])
        inputs = {
            **{("item", field): values for field, values in item.items()},
            **{("request", field): values for field, values in request.items()},
        }

        def compute(columns: Inputs) -> NDArray[Any]:
            of_item = {field: v for (of, field), v in columns.items() if of == "item"}
            of_request = {field: v for (of, field), v in columns.items() if of == "request"}
            return value.compute(of_item, of_request)

        return floats(run(compute, inputs, n, name=name), name=name)

    def _previous_items(
        self, items: PointInTimeRows, queries: PointInTimeQueries, before: Int64Array
    ) -> Int64Array:
        """The item that each query looks up; -1 for none."""
        ids = items.row_key
        if kinds(self.view.opened.record)[self.view.item] in ("int", "nullable_int"):
            ids = integers_of_codes(ids)
        by_digest = np.lexsort((ids, items.columns[ORDER], items.group))
        order = Order(items.group[by_digest], items.columns[ORDER][by_digest])
        start = order.before(queries.group, before - self.view.reach_us)
        end = order.before(queries.group, before)
        item = by_digest[order.order]
        group, gone = items.group[item], self._gone_us(items)[item]
        by_time = Order(queries.group, queries.as_of_us)
        # An item counts for `known < t <= gone`. For `before` below t the state may have dropped it
        # already.
        last = last_existing(
            by_time.before(group, np.maximum(items.known_us, items.columns[AFTER])[item] + 1),
            by_time.before(group, np.minimum(gone, HIGHEST - 1) + 1),
            first=start[by_time.order],
            stop=np.where(before >= queries.as_of_us, end, start)[by_time.order],
        )
        previous = np.full(len(queries), -1, np.int64)
        has_previous = np.flatnonzero(last >= 0)
        previous[by_time.order[has_previous]] = item[last[has_previous]]
        return previous

    def _gone_us(self, items: PointInTimeRows) -> Int64Array:
        """When the first event of `unless` about each item became known; HIGHEST for never."""
        columns = [items.columns[_known_column(self.view, event)] for event in self.view.unless]
        gone: Int64Array = np.minimum.reduce([np.full(len(items), HIGHEST), *columns])
        return gone

    def _known_values(
        self, items: PointInTimeRows, selected: Int64Array, as_of_us: Int64Array
    ) -> dict[str, NDArray[np.bool_] | Float64Array]:
        """What values are computed from: the kept fields that were known, and which events were."""
        columns: dict[str, NDArray[np.bool_] | Float64Array] = {}
        for event in self.view.sources:
            known_us = values_at(items.columns[_known_column(self.view, event)], selected)
            known = known_us < as_of_us
            columns[event.name] = known
            for field in self._fields_kept.get(event, ()):
                name = f"{event.name}.{field}"
                values = from_sortable(values_at(items.columns[name], selected))
                columns[name] = np.where(known, values, np.nan)
        return columns


def _wide_codes(view: LifecycleView) -> list[str]:
    """Items whose ids may lie beyond 2^53 had the codes of floats: they are of another schema."""
    wide = any(may_be_wide(event.record, view.item) for event in view.sources)
    return ["wide codes"] if wide else []


def _known_column(view: PreviousView, event: EventType) -> str:
    return OPENED if event == view.opened else f"known:{event.name}"


def _sums_before(
    group: Int64Array, time: Int64Array, table: Int64Array, queries: PointInTimeQueries
) -> Int64Array:
    """The sums of the rows of `table` whose `time` is before the query's."""
    order = Order(group, time)
    return running(table, order)[order.before(queries.group, queries.as_of_us)]

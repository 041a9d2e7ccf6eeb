"""Views over things that several events tell about: what is open, and what came before.

A row is a thing, named by the digest of its id. Each kind of event sets columns of its own and when
they were known; of two events of a kind the one that was told first counts. So the rows of a thing
can be merged at any time and in any order: a close may come before its open.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from features.definitions.events import BoolArray, Columns, EventType, Float64Array, Int64Array
from features.definitions.lifecycle_views import ItemView, OpenView, PreviousView
from features.engine.checks import nullify_invalid, required_fields
from features.engine.columns import kinds
from features.engine.digests import digests
from features.engine.numbers import from_sortable, sortable
from features.engine.point_in_time import PointInTimeQueries, Rows
from features.engine.sorting import HIGHEST, Order, chunks, pairs, running
from features.engine.state import ViewState
from features.errors import DeclarationError
from infra.clock import MINUTE, span_us

OPENED, CLOSED, ORDER = "known:opened", "known:closed", "order"


class _OfItems(ViewState):
    """What both kinds of views have in common: how rows of one thing are merged and dropped."""

    view: ItemView

    def __init__(
        self, view: ItemView, parts: Mapping[str, Sequence[str]], meaning: Sequence[object]
    ) -> None:
        """`parts`: the column that says when something was known -> the columns that it brings."""
        self._parts = parts
        columns = [c for known, brought in parts.items() for c in (known, *brought)]
        super().__init__(view, columns, [view.item, span_us(view.ahead), *meaning])

    def ready(self, head: NDArray[np.void], _settled_to: Int64Array, /) -> BoolArray:
        """Any row: a merged one still says when each part was known."""
        return np.ones(len(head), bool)

    def merged(self, rows: NDArray[np.void], starts: Int64Array) -> NDArray[np.void]:
        """See the base class."""
        found: NDArray[np.void] = rows[starts].copy()
        found["count"] = np.add.reduceat(rows["count"], starts)
        for name, values in self._first_told(rows, starts).items():
            found[name] = values
        return found

    def reachable(self, rows: NDArray[np.void], compacted_through: Int64Array) -> BoolArray:
        """See the base class: by its place in the order; a thing that is not opened yet by when it
        was first heard of."""
        heard = np.minimum.reduce([rows[known] for known in self._parts])
        oldest = compacted_through - self.view.reach_us
        there = rows[OPENED] != HIGHEST
        found: BoolArray = np.where(
            there, rows[ORDER] >= oldest, heard >= oldest - span_us(self.view.ahead)
        )
        return found

    def _items(self, rows: Rows) -> Rows:
        """One row for each thing that was opened; `known_us` means nothing any more."""
        order = np.lexsort((rows.label_us, rows.group))
        group, label = rows.group[order], rows.label_us[order]
        new = np.ones(len(order), bool)
        new[1:] = (group[1:] != group[:-1]) | (label[1:] != label[:-1])
        starts = np.flatnonzero(new)
        columns = {name: rows.columns[name][order] for name in self.columns}
        if len(starts):
            columns = self._first_told(columns, starts)
        group, label = group[starts], label[starts]
        there = np.flatnonzero(columns[OPENED] != HIGHEST)
        return Rows(
            group=group[there],
            label_us=label[there],
            known_us=columns[OPENED][there],
            counts=np.ones(len(there), np.int64),
            columns={name: values[there] for name, values in columns.items()},
        )

    def _first_told(
        self, columns: Mapping[str, Int64Array] | NDArray[np.void], starts: Int64Array
    ) -> dict[str, Int64Array]:
        """Of each stretch: when each part was first known, and what it brought then; the smaller
        value where two were told at one moment."""
        found: dict[str, Int64Array] = {}
        lengths = np.diff(np.append(starts, len(columns[OPENED])))
        for known, brought in self._parts.items():
            first = np.minimum.reduceat(columns[known], starts)
            found[known] = first
            told = columns[known] == np.repeat(first, lengths)
            for name in brought:
                found[name] = np.minimum.reduceat(np.where(told, columns[name], HIGHEST), starts)
        return found

    def _blank(self, n: int) -> dict[str, Int64Array]:
        """Columns of rows that say nothing yet."""
        return {name: np.full(n, HIGHEST, np.int64) for name in self.columns}

    def _rows(
        self, events: Columns, known_at_us: Int64Array, columns: dict[str, Int64Array]
    ) -> Rows:
        n = len(known_at_us)
        ids = events[self.view.item]
        return Rows(
            group=np.arange(n),
            label_us=digests(ids) if ids.dtype == object else sortable(ids),
            known_us=known_at_us,
            counts=np.ones(n, np.int64),
            columns=columns,
        )


class OpenState(_OfItems):
    """The state and the answers of an `OpenView`."""

    view: OpenView

    def __init__(self, view: OpenView) -> None:
        super().__init__(view, {OPENED: (ORDER,), CLOSED: ()}, [view.due])

    def fields(self, event: EventType) -> tuple[str, ...]:
        """See the base class."""
        due = (self.view.due,) if event == self.view.opened else ()
        return required_fields(event, (self.view.item, *due))

    def kept(self, event: EventType, events: Columns, known_at_us: Int64Array) -> Rows:
        """See the base class."""
        columns = self._blank(len(known_at_us))
        if event == self.view.opened:
            columns[OPENED] = known_at_us
            columns[ORDER] = np.asarray(events[self.view.due], np.int64)
        else:
            columns[CLOSED] = known_at_us
        return self._rows(events, known_at_us, columns)

    def answers(self, rows: Rows, questions: PointInTimeQueries) -> Float64Array:
        """See the base class.

        A thing is open for every t with `begin < t <= end`: the number of begins before t less the
        number of ends before t.
        """
        items = self._items(rows)
        due = items.columns[ORDER]
        begin = np.maximum(items.known_us, due)
        end = np.minimum(items.columns[CLOSED], due + self.view.reach_us)
        ever = np.flatnonzero(end > begin)
        # Counted from the first due time: a sum of times since 1970 could overflow.
        zero = int(due.min(initial=HIGHEST)) if len(due) else 0
        table = np.column_stack([np.ones(len(ever), np.int64), due[ever] - zero])
        group = items.group[ever]
        open_now = _sums_before(group, begin[ever], table, questions)
        open_now -= _sums_before(group, end[ever], table, questions)
        count, dues = open_now[:, 0], open_now[:, 1]
        waited = count * (questions.as_of_us - zero) - dues
        mean = np.where(count > 0, waited / np.maximum(count, 1) / MINUTE, np.nan)
        values = {"count": count.astype(np.float64), "mean_minutes": mean}
        return np.column_stack([values[what] for what in self.view.gives])


class PreviousState(_OfItems):
    """The state and the answers of a `PreviousView`."""

    view: PreviousView

    def __init__(self, view: PreviousView) -> None:
        self._kept: dict[EventType, tuple[str, ...]] = dict(view.keeps)
        parts = {
            _known(view, e): (
                *((ORDER,) if e == view.opened else ()),
                *(f"{e.name}.{f}" for f in self._kept.get(e, ())),
            )
            for e in view.sources
        }
        meaning = [view.order]
        super().__init__(view, parts, meaning)
        for event, fields in view.keeps:
            for field in fields:
                if kinds(event.record)[field] == "text":
                    raise DeclarationError(f"view {view.name}: {field!r} is text, not a number")

    def fields(self, event: EventType) -> tuple[str, ...]:
        """See the base class."""
        order = (self.view.order,) if event == self.view.opened else ()
        return required_fields(event, (self.view.item, *order, *self._kept.get(event, ())))

    def kept(self, event: EventType, events: Columns, known_at_us: Int64Array) -> Rows:
        """See the base class."""
        events = nullify_invalid(event, events)
        columns = self._blank(len(known_at_us))
        columns[_known(self.view, event)] = known_at_us
        if event == self.view.opened:
            columns[ORDER] = np.asarray(events[self.view.order], np.int64)
        for field in self._kept.get(event, ()):
            columns[f"{event.name}.{field}"] = sortable(events[field])
        return self._rows(events, known_at_us, columns)

    def answers(self, rows: Rows, questions: PointInTimeQueries) -> Float64Array:
        """See the base class."""
        items = self._items(rows)
        before = np.asarray(questions.fields[self.view.before], np.int64)
        pick = self._previous(items, questions, before)
        item = self._known_of(items, pick, questions.as_of_us)
        asked = {**questions.fields, "as_of_us": questions.as_of_us}
        values = [np.asarray(v.compute(item, asked), np.float64) for v in self.view.values]
        return np.column_stack(values)

    def _previous(
        self, items: Rows, questions: PointInTimeQueries, before: Int64Array
    ) -> Int64Array:
        """The thing that each question looks up; -1 for none."""
        by_id = np.lexsort((items.label_us, items.columns[ORDER], items.group))
        order = Order(items.group[by_id], items.columns[ORDER][by_id])
        start = order.before(questions.group, before - self.view.reach_us)
        end = order.before(questions.group, before)
        pick = np.full(len(questions), -1, np.int64)
        for a, b in chunks(end - start):
            which, at = pairs(start[a:b], end[a:b])
            found = by_id[order.order[at]]
            as_of_us = questions.as_of_us[a:b][which]
            # Below `t` the state may have dropped what it would look up.
            seen = (items.known_us[found] < as_of_us) & (before[a:b][which] >= as_of_us)
            for event in self.view.unless:
                seen &= items.columns[_known(self.view, event)][found] >= as_of_us
            pick[a + which[seen]] = found[seen]  # of several the last one stays
        return pick

    def _known_of(
        self, items: Rows, pick: Int64Array, as_of_us: Int64Array
    ) -> dict[str, NDArray[np.bool_] | Float64Array]:
        """The columns that values are computed from."""
        found: dict[str, NDArray[np.bool_] | Float64Array] = {}
        for event in self.view.sources:
            known = _taken(items.columns[_known(self.view, event)], pick) < as_of_us
            found[event.name] = known
            for field in self._kept.get(event, ()):
                values = from_sortable(_taken(items.columns[f"{event.name}.{field}"], pick))
                found[f"{event.name}.{field}"] = np.where(known, values, np.nan)
        return found


def _known(view: PreviousView, event: EventType) -> str:
    return OPENED if event == view.opened else f"known:{event.name}"


def _taken(values: Int64Array, pick: Int64Array) -> Int64Array:
    """The values of the picked; HIGHEST (never known, no number) where nothing is picked."""
    found = np.full(len(pick), HIGHEST, np.int64)
    there = pick >= 0
    found[there] = values[pick[there]]
    return found


def _sums_before(
    group: Int64Array, time: Int64Array, table: Int64Array, questions: PointInTimeQueries
) -> Int64Array:
    order = Order(group, time)
    return running(table, order)[order.before(questions.group, questions.as_of_us)]

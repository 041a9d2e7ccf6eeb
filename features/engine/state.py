"""The online state of one view: one value (bytes) an entity, exact and of bounded size.

One rule keeps it exact and small: rows that no allowed query can tell apart are merged, rows that
no allowed query can reach are dropped, all others are kept. Queries are allowed for any
`t >= compacted_through`, the time up to which a value has been compacted. A value may also have
marks: rows that say from when on it is exact, because an event may be in it twice.

Appending only adds delta rows behind the others, without parsing, so the appends of several writers
commute. Compaction merges the delta rows that were known before a given time into the base rows,
which no longer say when each event became known: every allowed query knows it. `value_format` has
the bytes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.definitions.events import BoolArray, Columns, EventType, Float64Array, Int64Array
from features.definitions.field_types import FLOAT, TRUTH_VALUE, value_type
from features.definitions.lifecycle_views import OpenView, PreviousView
from features.definitions.views import View
from features.engine.columns import kinds
from features.engine.queries import PointInTimeQueries
from features.engine.rows import PointInTimeRows
from features.engine.sorting import HIGHEST, UNSET
from features.engine.value_format import ValueFormat, ValueRows, entity_tags
from features.engine.value_limits import DROPPED, ValueLimits
from features.engine.view_identity import view_identity
from features.errors import DeclarationError

MARK = HIGHEST
"""`known_us` of a mark. Its row key is the time from which on the value is exact; as an event it is
never known."""


@dataclass(frozen=True, kw_only=True)
class ViewValues:
    """`values`: float64 (queries, features of the view), NaN for null. `exact`: False where the
    query is for a time before the value was compacted, or before a mark."""

    values: Float64Array
    exact: BoolArray


class ViewState(ABC):
    """What the online store keeps of a view, and how its features are computed from it.

    Holds no data: events, packed values and queries come in, packed values and features go out.
    Each kind of view says which rows it keeps of its events, how rows are merged and dropped, and
    how features are computed of them. History gives its rows to the same `compute`.

    `schema_id` changes with the meaning of the stored values; `identity` says what it consists of.
    `empty`: the value of an entity without rows.
    """

    def __init__(
        self,
        view: View,
        columns: Sequence[str],
        dependencies: Sequence[object],
        *,
        limits: Sequence[object] = (),
        value_limits: ValueLimits,
    ) -> None:
        """`columns`: names of the int64 columns of a row. `dependencies`, `limits`: what the
        numbers in them depend on, and which events have a row; a change of it is another schema."""
        _check_ids(view)
        self.view, self.columns = view, tuple(columns)
        dependencies = [*dependencies, *_key_texts_of(view)]
        self.identity = view_identity(view, self.columns, dependencies, self._kinds_read(), limits)
        self.schema_id = self.identity.schema_id
        self.format = ValueFormat(view.name, self.columns, self.schema_id)
        for earlier_id in self.identity.earlier_ids:
            self.accept(earlier_id)
        self.empty = self.format.empty
        self._limits = value_limits

    @property
    def name(self) -> str:
        """The view's name."""
        return self.view.name

    def accept(self, earlier_id: int) -> None:
        """Take values too that were written under another id of the same declaration."""
        self.format.accept(earlier_id)

    @abstractmethod
    def fields(self, event: EventType, /) -> tuple[str, ...]:
        """The fields of that event that `rows_of` reads; without the keys of the entity."""

    @abstractmethod
    def rows_of(
        self, event: EventType, /, events: Columns, known_at_us: Int64Array
    ) -> PointInTimeRows:
        """The rows that the view keeps of events. `group` is the index of the event; an event that
        does not count for the view has no row."""

    @abstractmethod
    def compute(self, rows: PointInTimeRows, queries: PointInTimeQueries) -> Float64Array:
        """The view's features, (queries, features), of rows of the state or of history."""

    @abstractmethod
    def merge_runs(self, rows: NDArray[np.void], starts: Int64Array) -> NDArray[np.void]:
        """One base row for each run of rows that are to be merged; `starts` are where they begin.
        The checksum is set later."""

    def merge_keys(self, _rows: NDArray[np.void], /) -> list[NDArray[Any]]:
        """What rows must share to be merged, beside the row key."""
        return []

    def runs(self, _rows: NDArray[np.void], starts: Int64Array, /) -> Int64Array:
        """Where the runs of rows that are merged begin, of runs that share all keys."""
        return starts

    def compactable(self, deltas: NDArray[np.void], compacted_through: Int64Array, /) -> BoolArray:
        """Which delta rows may become base rows: those that every allowed query knows."""
        known: BoolArray = deltas["known_us"] < compacted_through
        return known

    def truncated_to_hop(
        self, rows: NDArray[np.void], _compacted_through: Int64Array, /
    ) -> NDArray[np.void]:
        """Base rows under the smallest key that no allowed query tells from their own."""
        return rows

    @abstractmethod
    def reachable(self, rows: NDArray[np.void], compacted_through: Int64Array) -> BoolArray:
        """Which base rows a query at `compacted_through` or later can still reach."""

    def pack_rows(self, rows: PointInTimeRows, tags: Int64Array) -> NDArray[np.void]:
        """The rows as sealed delta rows; their bytes can be appended to the value of their entity.

        `tags`: the tag of the entity of each (`entity_tags`).
        """
        deltas = np.empty(len(rows), self.format.delta_row)
        deltas["row_key"], deltas["known_us"] = rows.row_key, rows.known_us
        for name in self.columns:
            deltas[name] = rows.columns[name]
        return self.format.seal(deltas, tags)

    def pack_marks(self, exact_from_us: Int64Array, tags: Int64Array) -> NDArray[np.void]:
        """Delta rows, one for each time, that make the values that they are appended to exact only
        from that time on. `tags`: see `pack_rows`."""
        marks = np.zeros(len(exact_from_us), self.format.delta_row)
        marks["row_key"], marks["known_us"] = exact_from_us, MARK
        return self.format.seal(marks, tags)

    def append(
        self,
        values: Sequence[bytes | None],
        delta_rows: Sequence[bytes],
        entities: Sequence[bytes],
    ) -> tuple[list[bytes], BoolArray]:
        """The values with packed delta rows added, to each its own, and which of them are due for
        compaction.

        A compaction costs as much as the value is long, so it waits until the delta rows have
        doubled and the value has grown by half: the cost of an event stays constant. It waits no
        longer when the value has too many rows.

        Raises:
            ViewSchemaMismatch: a value belongs to another declaration.
            CorruptValue: a header is damaged.
        """
        present = [self.empty if value is None else value for value in values]
        grown = self.format.append(present, delta_rows)
        return grown, self.are_due(grown, entities)

    def are_due(self, values: Sequence[bytes], entities: Sequence[bytes]) -> BoolArray:
        """Which values are due for compaction; see `append`."""
        base, deltas, deltas_left = self.format.row_counts(values, entities)
        due: BoolArray = deltas > self._limits.slack + 2 * deltas_left + base // 2
        due |= base + deltas > self._limits.max_rows
        return due

    def compact(
        self, values: Sequence[bytes], entities: Sequence[bytes], compacted_through_us: int
    ) -> list[bytes]:
        """Merge what was known before `compacted_through_us`, and drop what is out of reach.

        No feature as of `t >= compacted_through_us` changes. A value that is compacted through a
        later time already stays so: it can no longer be exact for earlier queries. One that would
        keep too many rows is compacted through so late a time that few enough are left.

        Raises:
            ViewSchemaMismatch: a value belongs to another declaration.
            CorruptValue: a value is damaged.
        """
        tags = entity_tags(entities)
        rows = _without_marks(self.format.parse(values, tags))
        through_us = np.maximum(rows.compacted_through_us, compacted_through_us)
        return self.format.pack(self._bounded(self._compacted(rows, through_us)), tags)

    def _compacted(self, rows: ValueRows, through_us: Int64Array) -> ValueRows:
        compactable = self.compactable(rows.deltas, through_us[rows.delta_group])
        group = np.concatenate([rows.base_group, rows.delta_group[compactable]])
        base = np.concatenate([rows.base, self._as_base_rows(rows.deltas[compactable])])
        reachable = self.reachable(base, through_us[group])
        base, group = base[reachable], group[reachable]
        base = self.truncated_to_hop(base, through_us[group])
        base, group = self._merged(base, group)
        return ValueRows(
            compacted_through_us=through_us,
            base=base,
            base_group=group,
            deltas=rows.deltas[~compactable],
            delta_group=rows.delta_group[~compactable],
        )

    def _bounded(self, rows: ValueRows) -> ValueRows:
        """The rows; of values that have too many, all known ones merged, and if that does not
        suffice, without the oldest."""
        too_large = rows.larger_than(self._limits.max_rows)
        if not len(too_large):
            return rows
        known_us = rows.compacted_through_us.copy()
        np.maximum.at(known_us, rows.delta_group, rows.deltas["known_us"] + 1)
        through_us = rows.compacted_through_us.copy()
        through_us[too_large] = known_us[too_large]
        merged = self._compacted(rows, through_us)
        for i in merged.larger_than(self._limits.max_rows).tolist():
            through_us[i] = self._limits.time_that_leaves_few(
                self._rows_left(*merged.of(i)), since_us=int(through_us[i])
            )
        bounded = self._compacted(merged, through_us)
        DROPPED.add(self.name, rows.events - bounded.events)
        return bounded

    def _rows_left(self, base: NDArray[np.void], deltas: NDArray[np.void]) -> Callable[[int], int]:
        """How many rows a compaction through a time leaves, if it merges none."""
        rows = np.concatenate([base, self._as_base_rows(deltas)])

        def rows_left(through_us: int) -> int:
            left = self.reachable(rows, np.array(through_us))
            left[len(base) :] |= ~self.compactable(deltas, np.array(through_us))
            return int(left.sum())

        return rows_left

    def read(
        self,
        values: Sequence[bytes | None],
        entities: Sequence[bytes],
        which: Int64Array,
        as_of_us: Int64Array,
        fields: Columns | None = None,
    ) -> ViewValues:
        """The features of queries (`values[which[i]]`, `as_of_us[i]`); which -1: no entity.

        `entities`: whose values they are.
        `fields`: the request's fields, at least those that the view reads.

        Raises:
            ViewSchemaMismatch: a value belongs to another declaration.
            CorruptValue: a value is damaged.
        """
        # One more value, an empty one, for queries about no entity.
        tags = entity_tags([*entities, b""])
        present = [self.empty if v is None else v for v in values]
        rows = _without_marks(self.format.parse([*present, self.empty], tags))
        which = np.where(which < 0, len(values), which)
        queries = PointInTimeQueries(group=which, as_of_us=as_of_us, fields=fields or {})
        return ViewValues(
            values=self.compute(self._all_rows(rows), queries),
            exact=as_of_us >= rows.compacted_through_us[which],
        )

    def verify(self, values: Sequence[bytes], entities: Sequence[bytes]) -> None:
        """Raises CorruptValue or ViewSchemaMismatch unless every value is undamaged, of this
        declaration and of its entity."""
        self.format.parse(values, entity_tags(entities))

    def _kinds_read(self) -> dict[str, dict[str, str]]:
        """The kinds of the fields that the view reads, by event."""
        return {
            event.name: {
                field: kinds(event.record)[field]
                for field in (*self.view.entity.keys, *self.fields(event))
            }
            for event in self.view.sources
        }

    def _all_rows(self, rows: ValueRows) -> PointInTimeRows:
        base, deltas = rows.base, rows.deltas
        return PointInTimeRows(
            group=np.concatenate([rows.base_group, rows.delta_group]),
            row_key=np.concatenate([base["row_key"], deltas["row_key"]]),
            known_us=np.concatenate([np.full(len(base), UNSET), deltas["known_us"]]),
            counts=np.concatenate([base["count"], np.ones(len(deltas), np.int64)]),
            columns={c: np.concatenate([base[c], deltas[c]]) for c in self.columns},
        )

    def _as_base_rows(self, deltas: NDArray[np.void]) -> NDArray[np.void]:
        rows = np.empty(len(deltas), self.format.base_row)
        rows["row_key"], rows["count"] = deltas["row_key"], 1
        for name in self.columns:
            rows[name] = deltas[name]
        return rows

    def _merged(
        self, rows: NDArray[np.void], group: Int64Array
    ) -> tuple[NDArray[np.void], Int64Array]:
        """One row for each (group, row key, merge key columns), sorted by them."""
        if not len(rows):
            return rows, group
        keys = [*self.merge_keys(rows), rows["row_key"], group]
        order = np.lexsort(keys)
        new = np.zeros(len(rows), bool)
        new[0] = True
        for key in keys:
            ordered = key[order]
            new[1:] |= ordered[1:] != ordered[:-1]
        starts = self.runs(rows[order], np.flatnonzero(new))
        merged = self.merge_runs(rows[order], starts)
        return merged, group[order][starts]


def _check_ids(view: View) -> None:
    """Refuses what cannot identify an entity or an item: numbers that are equal and differ in their
    texts, such as 0.0 and -0.0; and items of different types, which never meet."""
    items = (view.item,) if isinstance(view, OpenView | PreviousView) else ()
    for field in (*view.entity.keys, *items):
        for event in view.sources:
            if value_type(event.record, field) == FLOAT:
                raise DeclarationError(
                    f"view {view.name}: {field!r} of {event.name} is a number with a fraction,"
                    " which identifies nothing; make it text or a whole number"
                )
    for field in items:
        types = {value_type(event.record, field) for event in view.sources}
        if len(types) > 1:
            raise DeclarationError(
                f"view {view.name}: {field!r} is {' and '.join(sorted(types))} in its events, so"
                " these are never about one item"
            )


def _key_texts_of(view: View) -> tuple[object, ...]:
    """Until 0.1 a truth value in a key was another text live than after a rebuild: the values of
    such views are of another declaration."""
    types = {value_type(e.record, k) for e in view.sources for k in view.entity.keys}
    return (f"keys hold {TRUTH_VALUE} as 0 and 1",) if TRUTH_VALUE in types else ()


def _without_marks(rows: ValueRows) -> ValueRows:
    """The rows without marks, which become the time from which on each value is exact."""
    is_mark = rows.deltas["known_us"] == MARK
    if not is_mark.any():
        return rows
    exact_from = rows.compacted_through_us.copy()
    np.maximum.at(exact_from, rows.delta_group[is_mark], rows.deltas["row_key"][is_mark])
    return ValueRows(
        compacted_through_us=exact_from,
        base=rows.base,
        base_group=rows.base_group,
        deltas=rows.deltas[~is_mark],
        delta_group=rows.delta_group[~is_mark],
    )


def reduce_runs(
    rows: NDArray[np.void], starts: Int64Array, combine: Mapping[str, np.ufunc]
) -> NDArray[np.void]:
    """The first row of each run, with each column in `combine` reduced over the whole run."""
    merged: NDArray[np.void] = rows[starts].copy()
    for name, function in combine.items():
        merged[name] = function.reduceat(rows[name], starts)
    return merged

"""The online state of one view: one value (bytes) an entity, exact and bounded.

One rule makes it: rows that no allowed question can tell apart are merged, rows that none can reach
are dropped, all others are kept. A question may be asked for any `t >= settled_to`.

    value = header | settled rows, by label      | head rows, as they arrived
                   | label, count, int64 columns | label, known, int64 columns

The label says what a row is about: the time when it happened, or the thing that it speaks of.
`compacted_through`: what was known before it is settled. A settled row may stand for several events
and no longer says when each was known, because every question knows it. Updating only appends to
the head, without parsing, so the appends of several writers commute; a head that has grown is
folded into the settled rows. Every row carries a check, so damage is noticed and never served.
"""

import hashlib
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.definitions.events import BoolArray, Columns, EventType, Float64Array, Int64Array
from features.definitions.views import View
from features.engine.numbers import fingerprint
from features.engine.point_in_time import PointInTimeQueries, Rows
from features.engine.sorting import UNSET
from features.errors import FeatureError

# `settled`: how many settled rows. `left`: how many head rows the last fold left.
HEADER = np.dtype(
    [
        ("schema", "<i8"),
        ("settled_to", "<i8"),
        ("settled", "<i8"),
        ("left", "<i8"),
        ("check", "<i8"),
    ]
)
HEADER_SIZE = HEADER.itemsize
COMPACTION_SLACK = (
    16  # head rows beyond twice those left by the last fold that are worth the next one
)
CHECK = "check"
_CHECK_PRIME = np.uint64(0x9E3779B97F4A7C15)
_HEADER_SALT = 0x51ED270B
_HEADER = struct.Struct("<qqqqq")


class ViewSchemaMismatch(FeatureError):
    """A value was written under another declaration of its view and must not be served."""

    def __init__(self, view: str) -> None:
        super().__init__(
            f"the online values of view {view} were made under another declaration of it",
            hint="make the online store again: `eventide features rebuild`",
        )


class CorruptValue(FeatureError):
    """Values in the online store are not what was written there; they must not be served.

    `indexes`: which of the values that were given.
    """

    def __init__(self, view: str, indexes: Sequence[int]) -> None:
        self.view, self.indexes = view, tuple(indexes)
        super().__init__(
            f"{len(self.indexes)} online values of view {view} are damaged",
            hint="ingest finds it and mends the store; at once: `eventide features rebuild`",
        )


@dataclass(frozen=True, kw_only=True)
class ViewValues:
    """`values`: float64 (questions, features of the view), NaN for nothing. `exact`: False where
    the question was older than what the state still tells apart."""

    values: Float64Array
    exact: BoolArray


@dataclass(frozen=True, kw_only=True)
class _Parsed:
    """Rows of several values, one after the other, and how many of them each value has."""

    compacted_through: Int64Array
    settled: NDArray[np.void]
    settled_group: Int64Array
    head: NDArray[np.void]
    head_group: Int64Array


class ViewState(ABC):
    """Rows and packed values in, packed values and answers out. Holds no data itself.

    A kind of view says which columns it keeps of an event, how rows are merged and what is
    answered; history gives its rows to the same `answers`.
    """

    def __init__(self, view: View, columns: Sequence[str], meaning: Sequence[object]) -> None:
        """`meaning`: what the stored columns depend on; a change of it is another schema."""
        self.view, self.columns = view, tuple(columns)
        self.settled_row = _row("label", "count", *self.columns)
        self.head_row = _row("label", "known", *self.columns)
        self.schema_id = _schema_id(view, self.columns, meaning)
        self.empty = self._pack(
            np.array([UNSET]),
            np.empty(0, self.settled_row),
            np.empty(0, np.int64),
            np.empty(0, self.head_row),
            np.empty(0, np.int64),
        )[0]

    @property
    def name(self) -> str:
        """The view's name."""
        return self.view.name

    @abstractmethod
    def fields(self, event: EventType) -> tuple[str, ...]:
        """The fields that `kept` needs of that event, without the keys of the entity."""

    @abstractmethod
    def kept(self, event: EventType, events: Columns, known_at_us: Int64Array) -> Rows:
        """What the view keeps of events, a row each. `group` is the index of the event: one that
        does not count for the view is left out."""

    @abstractmethod
    def answers(self, rows: Rows, questions: PointInTimeQueries) -> Float64Array:
        """The view's features, (questions, features): for rows of the state as for those of
        history."""

    @abstractmethod
    def merged(self, rows: NDArray[np.void], starts: Int64Array) -> NDArray[np.void]:
        """One settled row for each stretch of equal rows; `starts` are where they begin."""

    def merge_key_columns(self) -> tuple[str, ...]:
        """Columns beside the label that rows must share to be merged."""
        return ()

    def ready(self, head: NDArray[np.void], compacted_through: Int64Array, /) -> BoolArray:
        """Which head rows may be settled."""
        found: BoolArray = head["known"] < compacted_through
        return found

    def truncated_to_hop(
        self, rows: NDArray[np.void], _settled_to: Int64Array, /
    ) -> NDArray[np.void]:
        """Settled rows under the label that questions still can tell from others."""
        return rows

    @abstractmethod
    def reachable(self, rows: NDArray[np.void], compacted_through: Int64Array) -> BoolArray:
        """Which settled rows a question at `compacted_through` or later can still reach."""

    def packed(self, rows: Rows) -> NDArray[np.void]:
        """Head rows, sealed."""
        head = np.empty(len(rows), self.head_row)
        head["label"], head["known"] = rows.label_us, rows.known_us
        for name in self.columns:
            head[name] = rows.columns[name]
        return self._sealed(head)

    def append(self, value: bytes | None, rows: bytes) -> tuple[bytes, bool]:
        """The value with packed head rows added, and whether it is worth a fold by now.

        Raises:
            ViewSchemaMismatch: the value belongs to another declaration.
            CorruptValue: its header is damaged.
        """
        grown = (value or self.empty) + rows
        return grown, self.needs_compaction(grown[:HEADER_SIZE], len(grown))

    def needs_compaction(self, header: bytes, length: int) -> bool:
        """Whether a value of that length has grown enough: a fold costs as much as the value is
        long, so it waits until the head has doubled, and the cost an event stays constant.

        Raises:
            ViewSchemaMismatch: the value belongs to another declaration.
            CorruptValue: its header is damaged.
        """
        schema_id, _, settled, left, _ = _HEADER.unpack_from(header.ljust(HEADER_SIZE, b"\0"))
        if schema_id != self.schema_id or len(header) < HEADER_SIZE:
            self._headers([header])  # it says whether the header is damaged or of another schema
        head_bytes = length - HEADER_SIZE - settled * self.settled_row.itemsize
        return bool(head_bytes > (COMPACTION_SLACK + 2 * left) * self.head_row.itemsize)

    def fold(self, values: Sequence[bytes], compacted_through_us: int) -> list[bytes]:
        """Merge what was known before `compacted_through_us` and drop what is out of reach.

        No answer to a question at `t >= compacted_through_us` changes. `compacted_through` never
        goes back: a value keeps its own where that is later, for it no longer can answer for what
        is before.

        Raises:
            ViewSchemaMismatch: a value belongs to another declaration.
            CorruptValue: a value is damaged.
        """
        found = self._parse(values)
        compacted_through = np.maximum(found.compacted_through, compacted_through_us)
        ready = self.ready(found.head, compacted_through[found.head_group])
        group = np.concatenate([found.settled_group, found.head_group[ready]])
        rows = np.concatenate([found.settled, self._as_settled(found.head[ready])])
        reachable = self.reachable(rows, compacted_through[group])
        rows, group = rows[reachable], group[reachable]
        rows, group = self._merge(self.truncated_to_hop(rows, compacted_through[group]), group)
        return self._pack(
            compacted_through, rows, group, found.head[~ready], found.head_group[~ready]
        )

    def read(
        self,
        values: Sequence[bytes | None],
        which: Int64Array,
        as_of_us: Int64Array,
        fields: Columns | None = None,
    ) -> ViewValues:
        """Answers to questions (`values[which[i]]`, `as_of_us[i]`); which -1 is no entity at all.

        `fields`: what the requests say, at least those that the view asks for.

        Raises:
            ViewSchemaMismatch: a value belongs to another declaration.
            CorruptValue: a value is damaged.
        """
        # One empty value more, for the questions about nothing.
        found = self._parse([*(v or self.empty for v in values), self.empty])
        which = np.where(which < 0, len(values), which)
        questions = PointInTimeQueries(group=which, as_of_us=as_of_us, fields=fields or {})
        return ViewValues(
            values=self.answers(self._all_rows(found), questions),
            exact=as_of_us >= found.compacted_through[which],
        )

    def verify(self, values: Sequence[bytes]) -> None:
        """Raises CorruptValue or ViewSchemaMismatch unless every value is whole."""
        self._parse(values)

    def _parse(self, values: Sequence[bytes]) -> _Parsed:
        headers = self._headers(values)
        lengths = np.fromiter(map(len, values), np.int64, len(values))
        ends = HEADER_SIZE + headers["settled"] * self.settled_row.itemsize
        torn = (ends > lengths) | ((lengths - ends) % self.head_row.itemsize != 0)
        if torn.any():
            raise CorruptValue(self.name, np.flatnonzero(torn).tolist())
        cuts = list(zip(values, ends.tolist(), strict=True))
        numbers = np.arange(len(values))
        found = _Parsed(
            compacted_through=headers["settled_to"],
            settled=np.frombuffer(b"".join([v[HEADER_SIZE:e] for v, e in cuts]), self.settled_row),
            settled_group=np.repeat(numbers, headers["settled"]),
            head=np.frombuffer(b"".join([v[e:] for v, e in cuts]), self.head_row),
            head_group=np.repeat(numbers, (lengths - ends) // self.head_row.itemsize),
        )
        self._check(found)
        return found

    def _headers(self, values: Sequence[bytes]) -> NDArray[np.void]:
        """The headers, whole and of this declaration."""
        padded = [v[:HEADER_SIZE].ljust(HEADER_SIZE, b"\0") for v in values]
        headers: NDArray[np.void] = np.frombuffer(b"".join(padded), HEADER)
        damaged = _checks(headers, _HEADER_SALT) != headers[CHECK]
        if (damaged | (headers["settled"] < 0)).any():
            raise CorruptValue(self.name, np.flatnonzero(damaged).tolist())
        if (headers["schema"] != self.schema_id).any():
            raise ViewSchemaMismatch(self.name)
        return headers

    def _check(self, found: _Parsed) -> None:
        damaged = [
            group[_checks(rows, self.schema_id) != rows[CHECK]]
            for rows, group in (
                (found.settled, found.settled_group),
                (found.head, found.head_group),
            )
        ]
        bad = np.unique(np.concatenate(damaged))
        if len(bad):
            raise CorruptValue(self.name, bad.tolist())

    def _sealed(self, rows: NDArray[np.void]) -> NDArray[np.void]:
        rows[CHECK] = _checks(rows, self.schema_id)
        return rows

    def _all_rows(self, found: _Parsed) -> Rows:
        settled, head = found.settled, found.head
        n = len(settled)
        return Rows(
            group=np.concatenate([found.settled_group, found.head_group]),
            label_us=np.concatenate([settled["label"], head["label"]]),
            known_us=np.concatenate([np.full(n, UNSET), head["known"]]),
            counts=np.concatenate([settled["count"], np.ones(len(head), np.int64)]),
            columns={c: np.concatenate([settled[c], head[c]]) for c in self.columns},
        )

    def _as_settled(self, head: NDArray[np.void]) -> NDArray[np.void]:
        rows = np.empty(len(head), self.settled_row)
        rows["label"], rows["count"] = head["label"], 1
        for name in self.columns:
            rows[name] = head[name]
        return rows

    def _merge(
        self, rows: NDArray[np.void], group: Int64Array
    ) -> tuple[NDArray[np.void], Int64Array]:
        """One row for each (group, label, sameness), sorted by them."""
        if not len(rows):
            return rows, group
        keys = [*(rows[c] for c in self.merge_key_columns()), rows["label"], group]
        order = np.lexsort(keys)
        new = np.zeros(len(rows), bool)
        new[0] = True
        for key in keys:
            ordered = key[order]
            new[1:] |= ordered[1:] != ordered[:-1]
        starts = np.flatnonzero(new)
        merged = self.merged(rows[order], starts)
        return self._sealed(merged), group[order][starts]

    def _pack(
        self,
        compacted_through: Int64Array,
        rows: NDArray[np.void],
        group: Int64Array,
        head: NDArray[np.void],
        head_group: Int64Array,
    ) -> list[bytes]:
        numbers = np.arange(len(compacted_through) + 1)
        row_cuts, head_cuts = np.searchsorted(group, numbers), np.searchsorted(head_group, numbers)
        headers = np.zeros(len(compacted_through), HEADER)
        headers["schema"], headers["settled_to"] = self.schema_id, compacted_through
        headers["settled"], headers["left"] = np.diff(row_cuts), np.diff(head_cuts)
        headers[CHECK] = _checks(headers, _HEADER_SALT)
        parts = (
            _cut(headers, numbers),
            _cut(rows, row_cuts),
            _cut(head, head_cuts),
        )
        return [a + b + c for a, b, c in zip(*parts, strict=True)]


@dataclass(frozen=True, kw_only=True)
class ViewRows:
    """New head rows for one view. `codes[i]` is the index in `entities` of `rows[i]`'s entity."""

    state: ViewState
    entities: Sequence[bytes]
    codes: Int64Array
    rows: NDArray[np.void]

    def by_entity(self) -> Iterator[tuple[bytes, bytes]]:
        """Each entity that has rows with them, packed, in the order in which they came."""
        packed = self.rows[np.argsort(self.codes, kind="stable")].tobytes()
        per_entity = np.bincount(self.codes, minlength=len(self.entities))
        ends = np.cumsum(per_entity) * self.rows.dtype.itemsize
        edges = pairwise([0, *ends.tolist()])
        for entity, (start, end) in zip(self.entities, edges, strict=True):
            if end > start:
                yield entity, packed[start:end]


def compacted_through_us(value: bytes) -> int:
    """From when on a value answers exactly."""
    compacted_through: int = _HEADER.unpack_from(value)[1]
    return compacted_through


def merge_rows(
    change: ViewRows,
    compacted_through_us: int,
    *,
    get: Callable[[bytes], bytes | None],
    put: Callable[[bytes, bytes], Any],
) -> None:
    """Add a batch of head rows to the values of their entities; fold those that have grown."""
    state = change.state
    grown: list[tuple[bytes, bytes]] = []
    for entity, rows in change.by_entity():
        value, needs_compaction = state.append(get(entity), rows)
        if needs_compaction:
            grown.append((entity, value))
        else:
            put(entity, value)
    if grown:
        folded = state.fold([value for _, value in grown], compacted_through_us)
        for (entity, _), value in zip(grown, folded, strict=True):
            put(entity, value)


def _cut(rows: NDArray[np.void], cuts: Int64Array) -> list[bytes]:
    """The bytes between the cuts."""
    packed, edges = rows.tobytes(), (cuts * rows.itemsize).tolist()
    return [packed[a:b] for a, b in pairwise(edges)]


def _checks(rows: NDArray[np.void], salt: int) -> Int64Array:
    """For each row a number that a changed bit changes; that of zeros is not zero."""
    found = np.full(len(rows), salt, np.int64).view(np.uint64)
    assert rows.dtype.names is not None
    for name in rows.dtype.names[:-1]:
        found = (found ^ rows[name].astype(np.uint64)) * _CHECK_PRIME
        found ^= found >> np.uint64(32)
    return found.view(np.int64)


def _row(*columns: str) -> np.dtype[np.void]:
    return np.dtype([(c, "<i8") for c in (*columns, CHECK)])


def _schema_id(view: View, columns: Sequence[str], meaning: Sequence[object]) -> int:
    """63 bits that change with the meaning of the stored integers.

    Bytecode is in `meaning`, so a column's changed formula is noticed; so is a new minor version of
    Python, which asks for a rebuild without need.
    """
    sources = [
        (
            e.schema,
            e.known_after_us,
            [(c.name, c.field, c.reads, fingerprint(c.holds)) for c in e.checks_that("blank")],
        )
        for e in view.sources
    ]
    parts = [view.name, sources, view.entity.keys, view.reach_us, tuple(columns), *meaning]
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def merged_columns(
    rows: NDArray[np.void], starts: Int64Array, combine: Mapping[str, np.ufunc]
) -> NDArray[np.void]:
    """The first row of each stretch, with the columns in `combine` taken over the whole of it."""
    merged: NDArray[np.void] = rows[starts].copy()
    for name, function in combine.items():
        merged[name] = function.reduceat(rows[name], starts)
    return merged

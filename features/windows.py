"""The online state of one view: one value (bytes) an entity, exact and bounded.

One rule makes it: events that no allowed question can tell apart are merged, events that none can
reach are dropped, all others are kept. A question may be asked for any `t >= settled_to`.

    value = header | settled rows, by label      | head rows, as they arrived
                   | label, count, int64 columns | label, known, int64 columns

`settled_to`: everything known before it is settled. A settled row stands for all events of one
microsecond; it no longer says when each was known, because every question knows it. Updating only
appends to the head, without parsing; a head that has grown is folded into the settled rows.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.errors import FeatureError
from features.kernel import Questions, Rows, window_values
from features.plan import UNSET, ViewPlan, plan_of
from features.ports import ViewRows
from features.vocabulary import BoolArray, FeatureView, Float64Array, Int64Array

HEADER = struct.Struct("<QqII")  # schema id, settled_to, settled rows, head rows left by a fold
FOLD_SLACK = 64  # head rows beyond twice those left by the last fold that are worth the next one


class OtherSchema(FeatureError):
    """A value was written under another declaration of its view and must not be served."""

    def __init__(self, view: str) -> None:
        super().__init__(
            f"the online values of view {view} were made under another declaration of it",
            hint="build the online store anew: `eventide features rebuild`, then run ingest",
        )


@dataclass(frozen=True, kw_only=True)
class Answers:
    """`values`: float64 (questions, features of the view), NaN for nothing. `exact`: False where
    the question was older than what the state still tells apart."""

    values: Float64Array
    exact: BoolArray


@dataclass(frozen=True, kw_only=True)
class _Parsed:
    """Rows of several values, one after the other, and how many of them each value has."""

    settled_to: Int64Array
    settled: NDArray[np.void]
    settled_counts: Int64Array
    head: NDArray[np.void]
    head_counts: Int64Array


class ViewState:
    """Rows and packed values in, packed values and answers out. Holds no data itself."""

    def __init__(self, plan: ViewPlan) -> None:
        self.plan = plan
        columns = [(c, "<i8") for c in plan.columns]
        self.settled_row = np.dtype([("label", "<i8"), ("count", "<i8"), *columns])
        self.head_row = np.dtype([("label", "<i8"), ("known", "<i8"), *columns])
        self.empty = HEADER.pack(plan.schema_id, UNSET, 0, 0)

    @property
    def name(self) -> str:
        """The view's name."""
        return self.plan.view.name

    def rows(
        self, event_time_us: Int64Array, known_at_us: Int64Array, columns: Mapping[str, Int64Array]
    ) -> NDArray[np.void]:
        """Head rows for events; `columns` are those of the view's plan."""
        rows = np.empty(len(event_time_us), self.head_row)
        rows["label"], rows["known"] = event_time_us, known_at_us
        for name in self.plan.columns:
            rows[name] = columns[name]
        return rows

    def append(self, value: bytes | None, rows: bytes) -> tuple[bytes, bool]:
        """The value with packed head rows added, and whether it is worth a fold by now.

        A fold costs as much as the value is long, so it waits until the head has doubled: the
        cost an event stays constant.

        Raises:
            OtherSchema: the value belongs to another declaration.
        """
        grown = (value or self.empty) + rows
        schema_id, _, settled, left = HEADER.unpack_from(grown)
        if schema_id != self.plan.schema_id:
            raise OtherSchema(self.name)
        head_bytes = len(grown) - HEADER.size - settled * self.settled_row.itemsize
        return grown, head_bytes > (FOLD_SLACK + 2 * left) * self.head_row.itemsize

    def fold(self, values: Sequence[bytes], settled_to_us: int) -> list[bytes]:
        """Settle what was known before `settled_to_us`, merge it and drop what is out of reach.

        No answer to a question at `t >= settled_to_us` changes. `settled_to` never goes back: a
        value keeps its own where that is later, for it no longer can answer for what is before.
        """
        found = self._parse(values)
        settled_to = np.maximum(found.settled_to, settled_to_us)
        of_settled = np.repeat(np.arange(len(values)), found.settled_counts)
        of_head = np.repeat(np.arange(len(values)), found.head_counts)
        ready = found.head["known"] < settled_to[of_head]
        group = np.concatenate([of_settled, of_head[ready]])
        rows = np.concatenate([found.settled, self._as_settled(found.head[ready])])
        reachable = rows["label"] >= (settled_to - self.plan.longest_us)[group]
        rows, group = self._merge(rows[reachable], group[reachable])
        return self._pack(settled_to, rows, group, found.head[~ready], of_head[~ready])

    def read(
        self, values: Sequence[bytes | None], which: Int64Array, as_of_us: Int64Array
    ) -> Answers:
        """Answers to questions (`values[which[i]]`, `as_of_us[i]`); which -1 is no entity at all.

        Raises:
            OtherSchema: a value belongs to another declaration.
        """
        # One empty value more, for the questions about nothing.
        found = self._parse([*(v or self.empty for v in values), self.empty])
        which = np.where(which < 0, len(values), which)
        questions = Questions(group=which, as_of_us=as_of_us)
        answers = window_values(self._all_rows(found), questions, self.plan.view.windows_us)
        return Answers(
            values=self.plan.features(answers, as_of_us),
            exact=as_of_us >= found.settled_to[which],
        )

    def _parse(self, values: Sequence[bytes]) -> _Parsed:
        headers = [HEADER.unpack_from(v) for v in values]
        if any(h[0] != self.plan.schema_id for h in headers):
            raise OtherSchema(self.name)
        ends = [HEADER.size + h[2] * self.settled_row.itemsize for h in headers]
        pairs = list(zip(values, ends, strict=True))
        settled = b"".join([v[HEADER.size : end] for v, end in pairs])
        head = b"".join([v[end:] for v, end in pairs])
        return _Parsed(
            settled_to=np.array([h[1] for h in headers], np.int64),
            settled=np.frombuffer(settled, self.settled_row),
            settled_counts=np.array([h[2] for h in headers], np.int64),
            head=np.frombuffer(head, self.head_row),
            head_counts=np.array([len(v) - end for v, end in pairs]) // self.head_row.itemsize,
        )

    def _all_rows(self, found: _Parsed) -> Rows:
        values = np.arange(len(found.settled_counts))
        settled, head = found.settled, found.head
        n = len(settled)
        return Rows(
            group=np.concatenate(
                [np.repeat(values, found.settled_counts), np.repeat(values, found.head_counts)]
            ),
            label_us=np.concatenate([settled["label"], head["label"]]),
            known_us=np.concatenate([np.full(n, UNSET), head["known"]]),
            counts=np.concatenate([settled["count"], np.ones(len(head), np.int64)]),
            columns={c: np.concatenate([settled[c], head[c]]) for c in self.plan.columns},
        )

    def _as_settled(self, head: NDArray[np.void]) -> NDArray[np.void]:
        rows = np.empty(len(head), self.settled_row)
        rows["label"], rows["count"] = head["label"], 1
        for name in self.plan.columns:
            rows[name] = head[name]
        return rows

    def _merge(
        self, rows: NDArray[np.void], group: Int64Array
    ) -> tuple[NDArray[np.void], Int64Array]:
        """One row for each (group, label), sorted by them."""
        order = np.lexsort((rows["label"], group))
        rows, group = rows[order], group[order]
        if not len(rows):
            return rows, group
        new = np.ones(len(rows), bool)
        new[1:] = (group[1:] != group[:-1]) | (rows["label"][1:] != rows["label"][:-1])
        at = np.flatnonzero(new)
        merged = rows[at].copy()
        merged["count"] = np.add.reduceat(rows["count"], at)
        for name in self.plan.columns:
            add = np.add if name.startswith("sum:") else np.maximum
            merged[name] = add.reduceat(rows[name], at)
        return merged, group[at]

    def _pack(
        self,
        settled_to: Int64Array,
        rows: NDArray[np.void],
        group: Int64Array,
        head: NDArray[np.void],
        head_group: Int64Array,
    ) -> list[bytes]:
        ends = np.arange(len(settled_to) + 1)
        row_cuts = np.searchsorted(group, ends).tolist()
        head_cuts = np.searchsorted(head_group, ends).tolist()
        packed = []
        for i, moment in enumerate(settled_to.tolist()):
            a, b, c, d = row_cuts[i], row_cuts[i + 1], head_cuts[i], head_cuts[i + 1]
            header = HEADER.pack(self.plan.schema_id, moment, b - a, d - c)
            packed.append(header + rows[a:b].tobytes() + head[c:d].tobytes())
        return packed


@cache
def state_of(view: FeatureView) -> ViewState:
    """The state of a view."""
    return ViewState(plan_of(view))


def settled_to_us(value: bytes) -> int:
    """From when on a value answers exactly."""
    settled_to: int = HEADER.unpack_from(value)[1]
    return settled_to


def merge_rows(
    change: ViewRows,
    settled_to_us: int,
    *,
    get: Callable[[bytes], bytes | None],
    put: Callable[[bytes, bytes], Any],
) -> None:
    """Add a batch of head rows to the values of their entities; fold those that have grown."""
    state = change.state
    order = np.argsort(change.codes, kind="stable")
    packed = change.rows[order].tobytes()
    per_entity = np.bincount(change.codes, minlength=len(change.entities))
    ends = (np.cumsum(per_entity) * change.rows.dtype.itemsize).tolist()
    start = 0
    grown: list[tuple[bytes, bytes]] = []
    for entity, end in zip(change.entities, ends, strict=True):
        value, worth_a_fold = state.append(get(entity), packed[start:end])
        if worth_a_fold:
            grown.append((entity, value))
        else:
            put(entity, value)
        start = end
    if grown:
        folded = state.fold([value for _, value in grown], settled_to_us)
        for (entity, _), value in zip(grown, folded, strict=True):
            put(entity, value)

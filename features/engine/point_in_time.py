"""The one kernel of all views over time: rows and questions in, values out.

A question (group g, time t) is about the rows of g that were known before t and lie from some edge
on (`label`: when it happened). Counting the pairs would cost rows times questions. Instead:

* sums over a window, whose edge moves with t:

      rows(known < t, label >= edge) = rows(known < t) - rows(label < edge)
                                                       + rows(label < edge, known >= t)

  The first two are prefix sums. The third counts only rows that were told later than the window is
  long; each of those is missing from one range of the questions in the order of time, which one
  difference array adds up: O((rows + questions) log rows), however late and shuffled the rows are.
* the lowest of the rows, and sums between any two edges: a merge-sort tree over the rows in the
  order in which they were known, whose blocks are sorted by label (O(rows log^2 rows)).

All of it is exact in int64.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from features.definitions.events import BoolArray, Columns, Int64Array
from features.engine.sorting import UNSET, Keys, Order, pairs, running

Maker = Callable[[Columns], Int64Array]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Events, or several merged into one. All arrays have one length; groups count from 0.

    `known_us` UNSET: known to every question. `counts`: how many events a row stands for.
    """

    group: Int64Array
    label_us: Int64Array
    known_us: Int64Array
    counts: Int64Array
    columns: Mapping[str, Int64Array]

    def __len__(self) -> int:
        return len(self.group)

    def at(self, index: Int64Array, group: Int64Array) -> "Rows":
        """Some of the rows, in other groups."""
        return Rows(
            group=group,
            label_us=self.label_us[index],
            known_us=self.known_us[index],
            counts=self.counts[index],
            columns={name: self.taken(name, index) for name in self.columns},
        )

    def taken(self, name: str, index: Int64Array) -> Int64Array:
        """A column of some of the rows. One that is made when it is asked for is made of these
        only."""
        if isinstance(self.columns, LazyColumns):
            return self.columns.taken(name, index)
        return self.columns[name][index]


class LazyColumns(Mapping[str, Int64Array]):
    """Columns that are made of events when they are asked for: those of a large history are never
    all in memory at once."""

    def __init__(self, events: Columns, makers: Mapping[str, tuple[Sequence[str], Maker]]) -> None:
        """`makers`: column -> the fields that it is made of, and how."""
        self._events, self._makers = events, makers

    def taken(self, name: str, index: Int64Array) -> Int64Array:
        """Some of a column."""
        fields, make = self._makers[name]
        return make({f: self._events[f][index] for f in fields})

    def __getitem__(self, name: str) -> Int64Array:
        fields, make = self._makers[name]
        return make({f: self._events[f] for f in fields})

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


@dataclass(frozen=True, kw_only=True)
class PointInTimeQueries:
    """What is asked: for which group, as of when. A group without rows is a fair question.

    `fields`: what the request says, for the views that read it.
    """

    group: Int64Array
    as_of_us: Int64Array
    fields: Columns = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.group)

    def at(self, index: Int64Array, group: Int64Array) -> "PointInTimeQueries":
        """Some of the questions, about other groups."""
        return PointInTimeQueries(
            group=group,
            as_of_us=self.as_of_us[index],
            fields={name: values[index] for name, values in self.fields.items()},
        )


class PointInTimeIndex:
    """Rows and the questions about them, sorted once for all that is asked of them."""

    def __init__(self, rows: Rows, questions: PointInTimeQueries) -> None:
        self.rows, self.questions = rows, questions
        self.by_known = Order(rows.group, rows.known_us)
        # How many rows come before each question, of its own group and of those before it.
        self.known = self.by_known.before(questions.group, questions.as_of_us)

    def sums(self, table: Int64Array) -> "WindowSums":
        """Sums of the rows of `table` over windows."""
        return WindowSums(self, table)

    def sums_between(
        self, table: Int64Array, start_us: Int64Array, end_us: Int64Array
    ) -> Int64Array:
        """The same for rows with start <= label < end, for any two edges (start <= end)."""
        start, end = self._labelled_before(start_us), self._labelled_before(end_us)
        total = np.zeros((len(self.questions), table.shape[1]), np.int64)
        for level in self._levels():
            sums = np.zeros((len(self.rows) + 1, table.shape[1]), np.int64)
            np.cumsum(table[self.by_known.order][level.order], axis=0, out=sums[1:])
            a, b = level.find(start[level.asked]), level.find(end[level.asked])
            total[level.asked] += sums[b] - sums[a]
        return total

    def newest(self) -> "SelectedRows":
        """The row with the largest label, whatever its age."""
        if not len(self.rows):
            none = np.full(len(self.questions), -1, np.int64)
            return SelectedRows(self, none, tied=lambda: np.empty(0, np.int64))
        # Keys of a later group are all higher, so a running maximum starts anew at each group.
        labels = self._label_keys[self.by_known.order]
        highest = np.maximum.accumulate(labels)
        leads = labels == highest
        again = leads[1:] & (highest[1:] == highest[:-1])
        leader = np.maximum.accumulate(np.where(leads, np.arange(len(labels)), 0))
        rows = self._of_own_group(self.by_known.order[leader[self.known - 1]], self.known > 0)
        tied = highest[1:][again]
        return SelectedRows(self, rows, tied=lambda: tied)

    def oldest(self, edge_us: Int64Array) -> "SelectedRows":
        """The row with the smallest label among those with label >= edge."""
        rows = self.lowest(self.rows.label_us, edge_us)
        return SelectedRows(self, rows, tied=lambda: self._tied_labels)

    def ties(self, rows: Int64Array, tied: Int64Array) -> tuple[Int64Array, Int64Array]:
        """What was known of the same group and label as these rows, one a question, of those whose
        keys are `tied`: the question and the row of each."""
        nothing = np.empty(0, np.int64)
        picked = np.flatnonzero(rows >= 0) if len(tied) else nothing
        asked = picked[np.isin(self._label_keys[rows[picked]], tied)]
        if not len(asked):
            return nothing, nothing
        first, end = self.by_label.ties
        rank = self._label_rank[rows[asked]]
        which, at = pairs(first[rank], end[rank])
        found = self.by_label.order[at]
        known = self.rows.known_us[found] < self.questions.as_of_us[asked[which]]
        return asked[which[known]], found[known]

    def lowest(self, values: Int64Array, edge_us: Int64Array) -> Int64Array:
        """The row with the smallest of `values` among those with label >= edge; -1 for none.

        Of equal ones it is any.
        """
        n = len(self.rows)
        none = n
        order = np.lexsort((values, self.rows.group))
        rank = np.empty(n, np.int64)
        rank[order] = np.arange(n)  # of a later group higher: so a suffix may run into it
        rank = rank[self.by_known.order]
        edge = self._labelled_before(edge_us)
        best = np.full(len(self.questions), none, np.int64)
        for level in self._levels():
            shifted = rank[level.order] + level.block_of_row * n
            suffix = np.minimum.accumulate(shifted[::-1])[::-1]
            at = level.find(edge[level.asked])
            inside = at < level.end
            asked = level.asked[inside]
            found = suffix[at[inside]] - level.block[inside] * n
            best[asked] = np.minimum(best[asked], found)
        return self._of_own_group(order[np.minimum(best, n - 1)], best < n) if n else best - 1

    def distinct(self, codes: Int64Array, moves: "SlidingWindow") -> Int64Array:
        """How many different `codes` have a row in a window; UNSET codes do not count.

        Of the rows of one code only the newest known one matters: each counts from the time when it
        became known as the newest until the next one did. That is a sum of +1 and -1.
        """
        steps = PointInTimeIndex(self._steps(codes), self.questions)
        return steps.sums(steps.rows.counts[:, None]).over(moves)[:, 0]

    def _steps(self, codes: Int64Array) -> Rows:
        rows = self.rows
        order = np.lexsort((rows.known_us, codes, rows.group))
        order = order[codes[order] != UNSET]
        group, code = rows.group[order], codes[order]
        label, known = rows.label_us[order], rows.known_us[order]
        new = np.ones(len(order), bool)
        new[1:] = (group[1:] != group[:-1]) | (code[1:] != code[:-1])
        segment = np.cumsum(new)
        ranks = np.unique(label, return_inverse=True)[1] + segment * (len(order) + 1)
        newest = np.maximum.accumulate(ranks)
        rises = new | np.r_[True, newest[1:] > newest[:-1]][: len(order)]
        at = np.flatnonzero(rises)
        # A rise that is not the first of its segment ends the one before it.
        ends = at[1:][~new[at[1:]]] if len(at) else at
        ended = at[:-1][~new[at[1:]]] if len(at) else at
        return Rows(
            group=np.concatenate([group[at], group[ends]]),
            label_us=np.concatenate([label[at], label[ended]]),
            known_us=np.concatenate([known[at], known[ends]]),
            counts=np.concatenate([np.ones(len(at), np.int64), np.full(len(ends), -1, np.int64)]),
            columns={},
        )

    @cached_property
    def _label_keys(self) -> Int64Array:
        return Keys(self.rows.group, self.rows.label_us).of_things()

    @cached_property
    def _tied_labels(self) -> Int64Array:
        """The keys that several rows share."""
        keys = np.sort(self._label_keys)
        return np.unique(keys[1:][keys[1:] == keys[:-1]])

    @cached_property
    def by_label(self) -> "Order":
        """The rows by group and label."""
        return Order(self.rows.group, self.rows.label_us)

    @cached_property
    def _label_rank(self) -> Int64Array:
        rank = np.empty(len(self.rows), np.int64)
        rank[self.by_label.order] = np.arange(len(self.rows))
        return rank

    @cached_property
    def by_time(self) -> "Order":
        """The questions by group and time."""
        return Order(self.questions.group, self.questions.as_of_us)

    def _labelled_before(self, edge_us: Int64Array) -> Int64Array:
        return self.by_label.before(self.questions.group, edge_us)

    def _of_own_group(self, found: Int64Array, there: BoolArray) -> Int64Array:
        own = there & (self.rows.group[found] == self.questions.group)
        return np.where(own, found, -1)

    def _levels(self) -> Iterator["_Level"]:
        """The levels of the tree. A prefix of the rows in the order of knowledge is one block at
        each level that its length has a bit of."""
        n = len(self.rows)
        label = self._label_rank[self.by_known.order] if n else np.empty(0, np.int64)
        rows = np.arange(n)
        for bit in range(int(n).bit_length()):
            asked = np.flatnonzero(self.known & (1 << bit))
            if not len(asked):
                continue
            block_of_row = rows >> bit
            keys = block_of_row * (n + 1) + label
            order = np.argsort(keys, kind="stable")
            block = (self.known[asked] >> (bit + 1)) << 1
            yield _Level(
                order=order,
                keys=keys[order],
                block_of_row=block_of_row,
                asked=asked,
                block=block,
                end=np.minimum((block + 1) << bit, n),
            )


class SelectedRows:
    """A row for each question; -1 for none, where `there` is false.

    Where several rows of one group and label were known, which is picked says nothing: it stands
    for all of them. `tied` gives the keys (group and label) of which that may be so; only columns
    ask for it, not ages.
    """

    def __init__(
        self, asked: PointInTimeIndex, rows: Int64Array, *, tied: Callable[[], Int64Array]
    ) -> None:
        self.there = rows >= 0
        self._asked, self._rows, self._tied = asked, rows, tied
        self._at = np.maximum(rows, 0)

    @cached_property
    def label_us(self) -> Int64Array:
        """When it happened; without meaning where there is none."""
        label = self._asked.rows.label_us
        return label[self._at] if len(label) else np.zeros(len(self._rows), np.int64)

    def max_of(self, column: str, *, turned: bool = False) -> Int64Array:
        """The largest value of a column among those that a row stands for; UNSET where there is
        none. `turned`: of the bitwise complement."""
        rows = self._asked.rows
        if not len(rows):
            return np.full(len(self._rows), UNSET, np.int64)
        found = _turned(rows.taken(column, self._at), turned)
        which, tied = self._ties
        if len(which):  # a column is costly to make
            np.maximum.at(found, which, _turned(rows.taken(column, tied), turned))
        return np.where(self.there, found, UNSET)

    @cached_property
    def _ties(self) -> tuple[Int64Array, Int64Array]:
        return self._asked.ties(self._rows, self._tied())


class WindowSums:
    """Sums over windows, whose edges follow the time of the question."""

    def __init__(self, asked: PointInTimeIndex, table: Int64Array) -> None:
        self._asked, self._table = asked, table
        self._known = running(table, asked.by_known)[asked.known]
        self._labelled = running(table, asked.by_label)

    def over(self, moves: "SlidingWindow") -> Int64Array:
        """The sums of the rows with label >= edge; (questions, columns of the table)."""
        questions = self._asked.questions
        edge = moves.edge(questions.as_of_us)
        total = self._known - self._labelled[self._asked.by_label.before(questions.group, edge)]
        self._add_told_late(total, moves)
        return total

    def _add_told_late(self, total: Int64Array, moves: "SlidingWindow") -> None:
        """Add the sums of the rows with `label < edge` and `known >= t`."""
        rows, order = self._asked.rows, self._asked.by_time
        # Subtracting UNSET would wrap round.
        known = np.where(rows.known_us == UNSET, rows.label_us, rows.known_us)
        late = np.flatnonzero(known - rows.label_us > moves.length_us)
        if not len(late):
            return
        group, label = rows.group[late], rows.label_us[late]
        first = order.before(group, moves.first_after(label))
        stop = order.before(group, rows.known_us[late] + 1)
        missed = stop > first
        out = np.zeros((len(total) + 1, total.shape[1]), np.int64)
        np.add.at(out, first[missed], self._table[late[missed]])
        np.subtract.at(out, stop[missed], self._table[late[missed]])
        np.cumsum(out, axis=0, out=out)
        total[order.order] += out[:-1]


@dataclass(frozen=True, kw_only=True)
class SlidingWindow:
    """How an edge follows a question: `floor(t - length, hop)`."""

    length_us: int
    hop_us: int = 1

    def edge(self, as_of_us: Int64Array) -> Int64Array:
        """The edge of questions at these times."""
        start = as_of_us - self.length_us
        return start if self.hop_us == 1 else start - start % self.hop_us

    def first_after(self, label_us: Int64Array) -> Int64Array:
        """The first time of a question whose edge lies behind these labels."""
        return label_us - label_us % self.hop_us + self.hop_us + self.length_us


@dataclass(frozen=True, kw_only=True)
class _Level:
    """One level: `order` sorts the rows (in the order of knowledge) by block and label; `block` and
    `end` are those of the questions in `asked`."""

    order: Int64Array
    keys: Int64Array
    block_of_row: Int64Array
    asked: Int64Array
    block: Int64Array
    end: Int64Array

    def find(self, label: Int64Array) -> Int64Array:
        """Where in `order` the rows with at least this rank of labels begin, of each question's
        block."""
        return np.searchsorted(self.keys, self.block * (len(self.keys) + 1) + label)


def _turned(values: Int64Array, turned: bool) -> Int64Array:
    return ~values if turned else values

"""The one kernel of windowed values: rows and questions in, values out.

A question (group g, time t) asks, for a window W, for the rows of g with `known < t` and
`label >= t - W` (label: when it happened). Counting the pairs would cost rows times questions, so

    rows(known < t, label >= lo) = rows(known < t) - rows(label < lo) + rows(label < lo, known >= t)

The first two are prefix sums. The third counts only rows that were told later than W after they
happened; each of those is missing from one range of the questions in the order of time, which one
difference array adds up. All of it is exact in int64, and O((rows + questions) log rows) however
late and shuffled the rows are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from features.plan import UNSET, WindowValues
from features.vocabulary import Int64Array


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Events, or several merged into one. All arrays have one length; groups count from 0.

    `known_us` UNSET: known to every question. `counts`: how many events a row stands for.
    """

    group: Int64Array
    label_us: Int64Array
    known_us: Int64Array
    counts: Int64Array
    columns: Mapping[str, Int64Array]  # `sum:` and `last:` columns of a view's plan


@dataclass(frozen=True, kw_only=True)
class Questions:
    """What is asked: for which group, as of when. A group without rows is a fair question."""

    group: Int64Array
    as_of_us: Int64Array

    def __len__(self) -> int:
        return len(self.group)


def window_values(rows: Rows, questions: Questions, windows_us: Sequence[int]) -> WindowValues:
    """Counts and sums for each window, and the newest values, for each question."""
    summed = [c for c in rows.columns if c.startswith("sum:")]
    table = np.column_stack([rows.counts, *(rows.columns[c] for c in summed)])
    by_known = _Order(rows.group, rows.known_us)
    by_label = _Order(rows.group, rows.label_us)
    asked = _Order(questions.group, questions.as_of_us)
    known = by_known.sums_before(table, questions.group, questions.as_of_us)
    counts, sums = {}, {}
    for window in windows_us:
        edge = questions.as_of_us - window
        total = known - by_label.sums_before(table, questions.group, edge)
        total += _unknown_before_edge(rows, table, asked, window)
        counts[window] = total[:, 0]
        sums[window] = {c: total[:, i + 1] for i, c in enumerate(summed)}
    newest, lasts = _newest(rows, questions, by_known)
    return WindowValues(counts=counts, sums=sums, newest_us=newest, lasts=lasts)


class _Order:
    """Things sorted by (group, time), to look others up among them."""

    def __init__(self, group: Int64Array, time: Int64Array) -> None:
        # Times become ranks: group and microseconds together may need more than 64 bits.
        self._times = np.unique(time)
        self._step = len(self._times) + 1
        keys = group * self._step + np.searchsorted(self._times, time)
        self.order = np.argsort(keys, kind="stable")
        self._keys = keys[self.order]

    def __len__(self) -> int:
        return len(self.order)

    def before(self, group: Int64Array, time: Int64Array) -> Int64Array:
        """How many things are sorted before each (group, time)."""
        keys = group * self._step + np.searchsorted(self._times, time)
        return np.searchsorted(self._keys, keys)

    def sums_before(self, table: Int64Array, group: Int64Array, time: Int64Array) -> Int64Array:
        """For each (group, time): the sums of the rows of `table` that come before it, of all
        groups. The difference of two such sums of one group is a sum over rows of that group."""
        running = np.zeros((len(table) + 1, table.shape[1]), np.int64)
        np.cumsum(table[self.order], axis=0, out=running[1:])
        return running[self.before(group, time)]


def _unknown_before_edge(
    rows: Rows, table: Int64Array, asked: _Order, window_us: int
) -> Int64Array:
    """For each question the sums of the rows with `label < t - W` and `known >= t`."""
    out = np.zeros((len(asked) + 1, table.shape[1]), np.int64)
    late = np.flatnonzero((rows.known_us != UNSET) & (rows.known_us - rows.label_us > window_us))
    if not len(late):
        return out[1:]
    group = rows.group[late]
    first = asked.before(group, rows.label_us[late] + window_us + 1)
    stop = asked.before(group, rows.known_us[late] + 1)
    np.add.at(out, first, table[late])
    np.subtract.at(out, stop, table[late])
    np.cumsum(out, axis=0, out=out)
    answer = np.empty_like(out[1:])
    answer[asked.order] = out[:-1]
    return answer


def _newest(
    rows: Rows, questions: Questions, by_known: _Order
) -> tuple[Int64Array, dict[str, Int64Array]]:
    """The time of the newest known row of each question, and its values, UNSET without one.

    Of rows of equal time each column takes the largest value.
    """
    names = [c for c in rows.columns if c.startswith("last:")]
    if not len(rows.group):
        nothing = np.full(len(questions), UNSET, np.int64)
        return nothing, dict.fromkeys(names, nothing)
    order = np.lexsort((rows.label_us, rows.group))
    pick = _leading(order, rows, questions, by_known)
    newest = np.where(pick >= 0, rows.label_us[pick], UNSET)
    tied = _has_ties(rows.group[order], rows.label_us[order])
    lasts = {}
    for name in names:
        values = rows.columns[name]
        best = pick
        if tied:
            order = np.lexsort((values, rows.label_us, rows.group))
            best = _leading(order, rows, questions, by_known)
        lasts[name] = np.where(best >= 0, values[best], UNSET)
    return newest, lasts


def _leading(order: Int64Array, rows: Rows, questions: Questions, by_known: _Order) -> Int64Array:
    """For each question its known row that comes last in `order` (sorted by group first); or -1."""
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    # Ranks of a later group are all higher, so a running maximum starts anew at each group.
    leader = order[np.maximum.accumulate(rank[by_known.order])]
    at = by_known.before(questions.group, questions.as_of_us) - 1
    found = leader[at]  # at = -1 wraps around: excluded in the next line
    return np.where((at >= 0) & (rows.group[found] == questions.group), found, -1)


def _has_ties(group: Int64Array, label: Int64Array) -> bool:
    return bool(np.any((group[1:] == group[:-1]) & (label[1:] == label[:-1])))

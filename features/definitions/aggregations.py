"""Aggregations, and the windows that they are made over."""

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Literal

from features.definitions.validation import require
from infra.clock import span_us

Operation = Literal[
    "count",
    "sum",
    "mean",
    "rate",
    "min",
    "max",
    "first",
    "last",
    "change",
    "distinct",
    "since_first",
    "since_last",
]
WITHOUT_COLUMN = frozenset({"count", "since_first", "since_last"})
ADDED_UP = frozenset({"count", "sum", "mean", "rate"})
OF_ADDED_COLUMNS = ADDED_UP - {"count"}
TIMED = frozenset({"first", "last", "change", "since_first", "since_last"})


@dataclass(frozen=True, kw_only=True)
class TimeWindow:
    """The last `length` before a question; its beginning moves in steps of `hop`.

    An event is inside from `floor(t - length, hop)` on. A hop lets the live state merge what no
    question can tell apart: without one every microsecond can.
    """

    length: timedelta
    hop: timedelta = timedelta(microseconds=1)

    def __post_init__(self) -> None:
        require(self.length > timedelta(0), "a window is longer than nothing")
        require(
            timedelta(0) < self.hop <= self.length,
            f"window {window_name(self.length)}: a hop is longer than nothing and no longer than"
            " its window",
        )

    @property
    def length_us(self) -> int:
        """In microseconds."""
        return span_us(self.length)

    @property
    def hop_us(self) -> int:
        """In microseconds."""
        return span_us(self.hop)

    @property
    def name(self) -> str:
        """Such as `7d`."""
        return window_name(self.length)


@dataclass(frozen=True, kw_only=True)
class Aggregation:
    """A value over the events of an entity in each of `windows` (none: in the view's `ttl`).

    count: how many. sum, mean, rate: of an integer column (rate is the mean of a 0/1 column).
    min, max: the smallest and largest value; first, last: that of the oldest and of the newest
    event; change: last less first. distinct: how many different values. since_first, since_last:
    minutes from the oldest and from the newest event. `column` is a column of the view or, except
    for sums, a field of the event.
    Empty windows give 0 for count, sum and distinct and nothing (NaN) for the others.
    """

    operation: Operation
    column: str | None = None
    windows: tuple[timedelta | TimeWindow, ...] = ()

    def __post_init__(self) -> None:
        require(
            (self.column is None) == (self.operation in WITHOUT_COLUMN),
            f"{self.operation}: count, since_first and since_last take no column, others need one",
        )
        for window in self.windows:
            _as_window(window)

    @cached_property
    def time_windows(self) -> tuple[TimeWindow, ...]:
        """The windows that are written out."""
        return tuple(_as_window(w) for w in self.windows)

    def feature(self, view: str, part: str = "") -> str:
        """The feature's name, such as `origin_departures_mean_delay_3h`; `part` is a window's or
        a span's name."""
        return "_".join(p for p in (view, self.operation, self.column, part) if p)


def window_name(window: timedelta) -> str:
    """`1h`, `30m`, `7d`: the largest unit that divides the window."""
    seconds = int(window.total_seconds())
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds % length == 0 and (unit != "d" or seconds > length):
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def _as_window(window: timedelta | TimeWindow) -> TimeWindow:
    return window if isinstance(window, TimeWindow) else TimeWindow(length=window)

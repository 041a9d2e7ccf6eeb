"""Aggregations, and the windows that they are computed over."""

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from features.definitions.declaration import Declaration
from features.definitions.operations import (
    OPERATIONS,
    Operation,
    OperationName,
    listed,
)
from features.definitions.validation import require
from infra.clock import span_us


@dataclass(frozen=True, kw_only=True)
class TimeWindow(Declaration):
    """The last `length` before a query at time t; its beginning moves in steps of `hop`.

    An event is inside if `floor(t - length, hop) <= event_time` and it is known before `t`. A hop
    lets the online state merge all events of one hop into one row; without a hop (1 microsecond)
    only events of the same microsecond are merged. For example, 90 days in hops of a day:

        TimeWindow(length=timedelta(days=90), hop=timedelta(days=1))
    """

    length: timedelta
    hop: timedelta = timedelta(microseconds=1)

    def __post_init__(self) -> None:
        require(self.length > timedelta(0), "a window is longer than 0")
        require(
            timedelta(0) < self.hop <= self.length,
            f"window {window_name(self.length)}: a hop is longer than 0 and no longer than its"
            " window",
        )

    @property
    def length_us(self) -> int:
        """`length` in microseconds."""
        return span_us(self.length)

    @property
    def hop_us(self) -> int:
        """`hop` in microseconds."""
        return span_us(self.hop)

    @property
    def name(self) -> str:
        """The window's name in features, such as `7d`."""
        return window_name(self.length)


@dataclass(frozen=True, kw_only=True)
class Aggregation(Declaration):
    """A value over the events of an entity, for each of `windows` (none: the view's `ttl`).

    | operation | value | of an empty window |
    | --- | --- | --- |
    | count | number of events | 0 |
    | sum | sum of `column` | 0 |
    | mean, rate | mean of `column`; a rate is the mean of a column of 0 and 1 | NaN |
    | min, max | smallest, largest value | NaN |
    | first, last | value of the oldest, of the newest event | NaN |
    | change | last minus first | NaN |
    | distinct | number of different values; null is not a value | 0 |
    | since_first, since_last | minutes since the oldest, the newest event | NaN |

    `column` is the name of a declared column of the view. All operations but sum, mean and rate
    also take a field of the event; they skip nulls, except first, last and change, which give NaN
    where the oldest or newest event has a null. A window is a `timedelta` or a `TimeWindow`.

        Aggregation(operation="mean", column="delay", windows=(timedelta(hours=3),))
    """

    operation: OperationName
    column: str | None = None
    windows: tuple[timedelta | TimeWindow, ...] = ()

    def __post_init__(self) -> None:
        operation = self.definition
        without_column = listed(o.name for o in OPERATIONS.values() if not o.takes_column)
        require(
            (self.column is not None) == operation.takes_column,
            f"{self.operation}: {without_column} take no column, others need one",
        )
        for window in self.windows:
            _as_window(window)

    @property
    def definition(self) -> Operation:
        """The record of its operation."""
        return OPERATIONS[self.operation]

    @cached_property
    def time_windows(self) -> tuple[TimeWindow, ...]:
        """Its windows, each as a `TimeWindow`."""
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

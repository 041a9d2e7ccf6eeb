"""How many rows a value may have, so that no entity slows down everybody's batches."""

from collections.abc import Callable
from dataclasses import dataclass

from features.engine.counts import Counts

MAX_ROWS = 100_000
"""About 7 MB in a view of a few columns: 3,500 events a day in a window of 28 days without a hop.
The busiest airport of the flights has 1,800 rows."""
_LEFT = 0.5  # of the rows: a compaction costs as much as the value is long, so it leaves room
_EARLIEST_US, _LATEST_US = -(1 << 61), 1 << 62  # no window before or after them leaves 64 bits


@dataclass(frozen=True, kw_only=True)
class ValueLimits:
    """When a value is compacted, and how many rows are left.

    `slack`: it is compacted when it has so many delta rows beyond twice those that the last
    compaction left and half of its base rows. `max_rows`: also when it has more rows than these.
    """

    slack: int = 16
    max_rows: int = MAX_ROWS

    def time_that_leaves_few(self, rows_left: Callable[[int], int], *, since_us: int) -> int:
        """The earliest time from `since_us` on that leaves few enough rows.

        `rows_left`: how many rows a compaction through a time leaves; never more through a later
        one.
        """
        most = int(self.max_rows * _LEFT)
        low, high = max(since_us, _EARLIEST_US), _LATEST_US
        while low < high:
            middle = (low + high) // 2
            if rows_left(middle) <= most:
                high = middle
            else:
                low = middle + 1
        return low


DEFAULT_LIMITS = ValueLimits()


DROPPED: Counts[str] = Counts()
"""Events that values of this process no longer hold because they had too many rows, by view."""

"""The federal holidays of the United States (5 U.S.C. 6103, without Juneteenth, new in 2021).

Demand changes for days around one. They are computed by rule, so that no year has to be added.
"""

from datetime import date, timedelta

import numpy as np

from features.definitions import Int64Array
from infra.clock import DAY

_FIRST_YEAR, _LAST_YEAR = 1990, 2100
_FIXED = ((1, 1), (7, 4), (11, 11), (12, 25))
_NTH_WEEKDAY = ((1, 3, 0), (2, 3, 0), (9, 1, 0), (10, 2, 0), (11, 4, 3))  # month, n-th, weekday
_LAST_MONDAY_OF = 5
_EPOCH = date(1970, 1, 1)


def days_from_holiday(day: Int64Array, *, at_most: int) -> Int64Array:
    """Days since the nearest holiday, negative before it, cut at `at_most`; `day` counts from 1970.

    Of two equally near the earlier one counts.
    """
    after = np.searchsorted(_DAYS, day)
    earlier = _DAYS[np.maximum(after - 1, 0)]
    later = _DAYS[np.minimum(after, len(_DAYS) - 1)]
    nearest = np.where(day - earlier <= later - day, earlier, later)
    return np.clip(day - nearest, -at_most, at_most)


def local_day(departure_us: Int64Array, local_minute: Int64Array) -> Int64Array:
    """The local date of a departure in days since 1970: local midnight lies at 4 or 5 UTC."""
    return (departure_us - local_minute * 60_000_000) // DAY


def _holidays(year: int) -> list[date]:
    days = [date(year, month, day) for month, day in _FIXED]
    days += [_nth(year, month, n, weekday) for month, n, weekday in _NTH_WEEKDAY]
    following = _nth(year, _LAST_MONDAY_OF + 1, 1, 0)
    return [*days, following - timedelta(days=7)]


def _nth(year: int, month: int, n: int, weekday: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (n - 1))


_DAYS = np.sort(
    np.array(
        [(d - _EPOCH).days for y in range(_FIRST_YEAR, _LAST_YEAR + 1) for d in _holidays(y)],
        np.int64,
    )
)

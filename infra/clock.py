"""Time, in the one unit that every store and every rule uses: microseconds since 1970, UTC."""

import time
from datetime import UTC, date, datetime, timedelta

MILLISECOND = 1_000
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now_us() -> int:
    """The machine's clock."""
    return time.time_ns() // 1_000


def to_us(moment: datetime | date) -> int:
    """Microseconds of a moment; a date means its midnight UTC, a naive datetime is refused."""
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_us(moment_us: int) -> datetime:
    """The moment, as an aware UTC datetime."""
    return _EPOCH + timedelta(microseconds=moment_us)


def span_us(span: timedelta) -> int:
    """A length of time in microseconds."""
    return span // timedelta(microseconds=1)

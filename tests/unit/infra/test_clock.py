"""Times are whole microseconds since 1970, UTC."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.clock import HOUR, from_us, now_us, span_us, to_us


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_moment_survives_the_round_trip(moment: datetime) -> None:
    assert from_us(to_us(moment)) == moment


def test_a_date_means_its_midnight_utc() -> None:
    assert from_us(to_us(date(2013, 3, 1))) == datetime(2013, 3, 1, tzinfo=UTC)


def test_time_zones_are_converted_and_naive_times_refused() -> None:
    new_york = timezone(timedelta(hours=-5))
    assert to_us(datetime(2013, 1, 1, tzinfo=new_york)) - to_us(date(2013, 1, 1)) == 5 * HOUR
    with pytest.raises(ValueError, match="has no time zone"):
        to_us(datetime(2013, 1, 1))  # noqa: DTZ001


def test_spans_and_the_clock_are_in_microseconds() -> None:
    assert span_us(timedelta(hours=1)) == HOUR
    assert abs(from_us(now_us()) - datetime.now(UTC)) < timedelta(minutes=1)

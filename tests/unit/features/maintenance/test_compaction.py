"""Which days are compacted."""

from datetime import date

from features.maintenance.compaction import closed_days
from infra.clock import DAY, HOUR, to_us

FIRST, SECOND, THIRD = (date(2013, 1, d) for d in (1, 2, 3))
DAYS = [THIRD, FIRST, SECOND]


def test_a_day_is_closed_when_newer_events_are_known_some_hours_after_its_end() -> None:
    end_us = to_us(FIRST) + DAY
    for late_us, closed in ((0, [FIRST]), (-1, []), (DAY, [FIRST, SECOND])):
        newest = end_us + 6 * HOUR + late_us
        days = closed_days(DAYS, newest_known_at_us=newest, closed_after_us=6 * HOUR)
        assert days == closed

"""The tour runs commands, and stops with a reason when one fails."""

from datetime import UTC, date, datetime
from typing import Any

import pytest

from ml.demo import tour
from ml.demo.tour import TourFailed, steps, tour_of

TOUR = tour_of(first_day=date(2013, 3, 31), last_day=date(2013, 4, 1), live_hours=48)


def test_the_live_part_begins_where_the_last_trained_day_ends() -> None:
    assert TOUR.history_until == datetime(2013, 4, 1, 9, tzinfo=UTC)
    assert TOUR.live_until == datetime(2013, 4, 3, 9, tzinfo=UTC)


def test_the_history_has_no_requests_and_the_live_part_waits_for_ingest() -> None:
    commands = {step.name: step.command for step in steps(TOUR)}
    assert "--without" in commands["history"]
    assert "--lockstep" in commands["live"]
    assert "--settled" in commands["audit"]


@pytest.mark.parametrize(
    "outcome", [{"version": "1", "champion": None}, {"version": None, "champion": "1"}]
)
def test_a_promoted_model_or_an_older_champion_is_enough(outcome: dict[str, Any]) -> None:
    tour._require_champion([{"report": {**outcome, "reasons": []}}])


def test_without_a_champion_the_tour_stops_with_the_reason() -> None:
    report = {"version": None, "champion": None, "reasons": ["too few rows"]}
    with pytest.raises(TourFailed, match="nothing to serve: too few rows"):
        tour._require_champion([{"report": report}])

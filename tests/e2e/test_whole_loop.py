"""The demo, smaller: every real server, one trained day, half a day of live forecasts, an audit."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.data.recordings import FOLDER, flights_file
from tests.support.processes.commands import environment, run

pytestmark = pytest.mark.timeout(900)

DAY = ("--first-day", "2013-02-22", "--last-day", "2013-02-22", "--live-hours", "12")


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Variables of a stack of its own, which is stopped at the end."""
    flights_file()
    state = tmp_path_factory.mktemp("e2e")
    found = environment(state, "", EVENTIDE_RECORDINGS=str(FOLDER))
    del found["EVENTIDE_KAFKA__BOOTSTRAP_SERVERS"]  # the stack says where its broker is
    yield found
    run("down", env=found)


@pytest.fixture(scope="module")
def summary(env: dict[str, str]) -> dict[str, Any]:
    """What the demo found."""
    run("demo", *DAY, env=env)
    file = Path(env["EVENTIDE_STATE_DIR"]) / "demo" / "summary.json"
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_the_day_is_trained_and_promoted(summary: dict[str, Any]) -> None:
    (run_,) = summary["training"]
    assert run_["state"] == "success"
    assert run_["report"]["decision"] == "promoted"
    metrics = run_["report"]["metrics"]
    assert metrics["boosted_trees"]["log_loss"] < metrics["base_rate"]["log_loss"]


def test_every_flight_has_one_forecast_from_exact_features(summary: dict[str, Any]) -> None:
    report, audit = summary["report"], summary["audit"]
    requests = audit["totals"]["requests"]
    assert requests["asked"] == requests["predicted"] == report["forecasts"]
    assert requests["asked"] > 300
    assert report["inexact"] == report["stale"] == requests["stale"] == 0


def test_nothing_is_missing_doubled_or_different(summary: dict[str, Any]) -> None:
    audit = summary["audit"]
    assert audit["clean"]
    assert audit["settled"]
    assert audit["online"]["values_checked"] > 1_000


def test_samples_are_told_in_plain_words(summary: dict[str, Any]) -> None:
    samples = summary["samples"]
    assert len(samples) == 5
    assert all("likely to land 15 minutes late" in line for line in samples)


def test_a_second_demo_does_nothing_twice(env: dict[str, str], summary: dict[str, Any]) -> None:
    done = run("demo", *DAY, env=env)
    file = Path(env["EVENTIDE_STATE_DIR"]) / "demo" / "summary.json"
    again = json.loads(file.read_text())
    assert again["history"]["sent"] == again["live"]["sent"] == 0
    assert again["audit"]["totals"] == summary["audit"]["totals"]
    assert "audit" in done.stdout

"""The demo, smaller: real servers, one trained day, half a day of live predictions, an audit."""

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
    variables = environment(state, "", EVENTIDE_RECORDINGS=str(FOLDER))
    del variables["EVENTIDE_KAFKA__BOOTSTRAP_SERVERS"]  # the stack says where its broker is
    yield variables
    run("down", env=variables)


@pytest.fixture(scope="module")
def summary(env: dict[str, str]) -> dict[str, Any]:
    """The summary that the demo wrote."""
    run("demo", *DAY, env=env)
    file = Path(env["EVENTIDE_STATE_DIR"]) / "demo" / "summary.json"
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def test_the_day_is_trained_and_promoted(summary: dict[str, Any]) -> None:
    (run_,) = summary["training"]
    assert run_["state"] == "success"
    assert run_["report"]["decision"] == "promoted"
    metrics = run_["report"]["metrics"]
    assert metrics["boosted_trees"]["log_loss"] < metrics["base_rate"]["log_loss"]


def test_every_flight_has_one_prediction_from_exact_features(summary: dict[str, Any]) -> None:
    report, audit = summary["report"], summary["audit"]
    requests = audit["totals"]["requests"]
    assert requests["asked"] == requests["predicted"] == report["forecasts"]
    assert requests["asked"] > 300
    assert report["inexact"] == report["stale"] == requests["stale"] == 0


def test_no_event_is_missing_or_duplicated_and_no_value_differs(summary: dict[str, Any]) -> None:
    audit = summary["audit"]
    assert audit["clean"]
    assert audit["settled"]
    assert audit["online"]["values_checked"] > 1_000


def test_samples_are_written_in_plain_words(summary: dict[str, Any]) -> None:
    samples = summary["samples"]
    assert len(samples) == 5
    assert all("likely to land 15 minutes late" in line for line in samples)


def test_a_second_demo_repeats_no_work(env: dict[str, str], summary: dict[str, Any]) -> None:
    completed = run("demo", *DAY, env=env)
    file = Path(env["EVENTIDE_STATE_DIR"]) / "demo" / "summary.json"
    summary_again = json.loads(file.read_text())
    assert summary_again["history"]["sent"] == summary_again["live"]["sent"] == 0
    assert summary_again["audit"]["totals"] == summary["audit"]["totals"]
    assert "audit" in completed.stdout

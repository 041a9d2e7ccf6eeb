"""A tour of the whole loop: history in, two trained days, two live days, and how good they were.

Every step is a command that a user can type; the tour runs them in order, reads what they report
and sums it up. It can be run again: what an earlier tour has done is not done twice.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from pathlib import Path
from typing import Any

from infra.atomic import write_atomic
from infra.errors import EventideError
from infra.process.progress import StatusCallback

TRAINING = "training"
CUTOFF = clock(9)
SETTLES_WITHIN = timedelta(hours=12)  # 99 of 100 flights have landed 9 hours after the request


class TourFailed(EventideError):
    """A command of the tour failed; what it printed was shown."""

    hint = "see `eventide status` and `eventide logs`; the same command continues where it ended"


@dataclass(frozen=True, kw_only=True)
class Tour:
    """What is replayed and trained. Times are emission times, UTC; `until` is exclusive.

    A run takes 09:00 UTC of its day as its 'now' (04:00 or 05:00 in New York, the quiet hour), so
    history ends there. The events until `settled_until` give the labels of the last live requests.
    """

    first_day: date
    last_day: date
    history_until: datetime
    live_until: datetime
    settled_until: datetime
    domain: str = "flights"
    project: str = "flight_delay"
    request: str = "flight.forecast_requested"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command. Its JSON goes into the summary under `name`."""

    name: str
    title: str
    command: Sequence[str]
    json: bool = True


def tour_of(*, first_day: date, last_day: date, live_hours: int) -> Tour:
    """History until the cut-off of the last trained day, and `live_hours` of requests after it."""
    now = datetime.combine(last_day, CUTOFF, tzinfo=UTC)
    live_until = now + timedelta(hours=live_hours)
    return Tour(
        first_day=first_day,
        last_day=last_day,
        history_until=now,
        live_until=live_until,
        settled_until=live_until + SETTLES_WITHIN,
    )


def run_tour(tour: Tour, *, on_progress: StatusCallback) -> dict[str, Any]:
    """Run every step in order. Returns the JSON of each step, and `seconds` by step.

    Raises:
        TourFailed: a command failed.
    """
    begun = time.monotonic()
    results: dict[str, Any] = {"seconds": {}}
    for step in steps(tour):
        on_progress(step.title)
        started = time.monotonic()
        results[step.name] = _eventide(step)
        results["seconds"][step.name] = round(time.monotonic() - started, 1)
        if step.name == TRAINING:
            _require_champion(results[step.name])
    results["seconds"]["all"] = round(time.monotonic() - begun, 1)
    return results


def steps(tour: Tour) -> tuple[Step, ...]:
    """The tour as commands."""
    send = ("replay", tour.domain, "--wait", "--json")
    without_requests = ("--without", tour.request)
    live = ("--from", moment(tour.history_until), "--until", moment(tour.live_until))
    after = ("--from", moment(tour.live_until), "--until", moment(tour.settled_until))
    days = ("--from", str(tour.first_day), "--until", str(tour.last_day))
    return (
        Step(name="up", title="the servers, then ingest and serving", command=("up",), json=False),
        Step(
            name="history",
            title=f"history: what happened until {moment(tour.history_until)}",
            command=(*send, "--until", moment(tour.history_until), *without_requests),
        ),
        Step(
            name=TRAINING,
            title=f"training: {tour.first_day} to {tour.last_day}, by Airflow backfill",
            command=("backfill", tour.project, *days, "--json"),
        ),
        Step(
            name="live",
            title=f"live until {moment(tour.live_until)}: a prediction for each flight",
            command=(*send, *live, "--lockstep"),
        ),
        Step(
            name="after",
            title="after the live part: the labels of its last requests",
            command=(*send, *after, *without_requests),
        ),
        Step(
            name="report",
            title="report: the predictions against what happened",
            command=("report", tour.project, *live, "--json"),
        ),
        Step(
            name="audit",
            title="audit: every event and every request",
            command=("audit", "--settled", "--json"),
        ),
    )


def write_summary(results: Mapping[str, Any], file: Path) -> None:
    """Write what the commands of the tour reported."""
    write_atomic(file, (json.dumps(results, indent=2) + "\n").encode())


def moment(value: datetime) -> str:
    """As commands take it."""
    return value.strftime("%Y-%m-%dT%H:%M:%SZ")


def _require_champion(runs: Sequence[Mapping[str, Any]]) -> None:
    """Without a model serving predicts nothing, and the live part would wait for ever."""
    outcomes = [run["report"] for run in runs]
    if not any(outcome["version"] or outcome["champion"] for outcome in outcomes):
        why = "; ".join(reason for outcome in outcomes for reason in outcome["reasons"])
        raise TourFailed(
            f"no model was promoted, so there is nothing to serve: {why}",
            hint="choose later days: more history is known by then",
        )


def _eventide(step: Step) -> Any:
    """Run one command. Progress goes to the terminal, its JSON comes back."""
    program = str(Path(sys.executable).with_name("eventide"))
    output = subprocess.PIPE if step.json else None
    finished = subprocess.run([program, *step.command], stdout=output, text=True, check=False)
    if finished.returncode:
        sys.stderr.write(finished.stdout or "")
        raise TourFailed(
            f"`eventide {' '.join(step.command)}` ended with code {finished.returncode}"
        )
    return json.loads(finished.stdout) if step.json else None

"""The demo, smaller: real servers, one trained day, some hours of live predictions, an audit.

Then its stack, which has every server: what it shows to others, a kill in it, and its end.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.local_stack.process_table import identify
from tests.support.data.recordings import FOLDER, flights_file
from tests.support.processes.commands import environment, run
from tests.support.processes.stack import Stack, all_gone, is_back, own_ports
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(900)

DAY = ("--first-day", "2013-02-22", "--last-day", "2013-02-22", "--live-hours", "8")


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Variables of a stack of its own, which is stopped at the end."""
    flights_file()
    state = tmp_path_factory.mktemp("e2e")
    variables = environment(state, "", EVENTIDE_RECORDINGS=str(FOLDER), **own_ports())
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


def listening_addresses(pid: int) -> list[tuple[str, str]]:
    """Address and name of what a process listens on; nothing of one that has just ended."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        name = process.name()
        return [
            (connection.laddr.ip, name)
            for connection in process.net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        ]
    return []


@pytest.fixture
def stack(env: dict[str, str], summary: dict[str, Any]) -> Stack:
    """The stack of the demo, which runs on after it."""
    stack = Stack(Path(env["EVENTIDE_STATE_DIR"]))
    wait_until(stack.is_healthy, what="every server is healthy", limit_s=120)
    return stack


def test_every_server_listens_on_the_loopback_address_only(stack: Stack) -> None:
    listening = [
        address for process in stack.processes() for address in listening_addresses(process.pid)
    ]
    assert len(listening) >= 6  # two of Kafka; MLflow, Airflow, ingest and serving
    assert {ip for ip, _ in listening} <= {"127.0.0.1", "::ffff:127.0.0.1"}, listening


def test_only_the_owner_may_read_a_secret(stack: Stack) -> None:
    secrets = list((stack.state / "secrets").iterdir())
    assert len(secrets) >= 3
    assert {file.stat().st_mode & 0o777 for file in secrets} == {0o600}


@pytest.mark.fault
def test_a_killed_scheduler_restarts_and_leaves_no_worker(stack: Stack) -> None:
    recorded = stack.recorded("scheduler")
    assert recorded is not None
    assert recorded.pid is not None  # psutil would take it for this process
    scheduler = psutil.Process(recorded.pid)
    workers = {me for child in scheduler.children(recursive=True) if (me := identify(child.pid))}
    assert workers
    scheduler.kill()
    wait_until(lambda: all_gone(workers), what="the old workers are gone")
    wait_until(
        lambda: is_back(stack, "scheduler", than=recorded.restarts),
        what="the scheduler is back",
        limit_s=120,
    )


def test_down_leaves_no_process(stack: Stack) -> None:
    processes = stack.processes()
    assert len(processes) > 10
    stack("down")
    assert all_gone(processes)

"""The DAGs as Airflow sees them, and one whole run from a real offline store to a champion."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ml.projects import projects
from tests.support.data.flight_events import write_synthetic_flights
from tests.support.processes.airflow import DAGS, environment, run_module
from tests.support.servers import MLFLOW_LOGIN_SETTINGS

RUN_DAY = "2013-02-15"
LEARNERS = 3


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run_module(environment(tmp_path_factory.mktemp("airflow")), "facts")


@pytest.fixture(scope="module")
def dag(facts: Any) -> Any:
    return facts["dags"]["train_flight_delay"]


def test_every_project_has_a_dag_and_every_file_is_sound(facts: Any) -> None:
    assert facts["errors"] == {}
    assert set(facts["dags"]) >= {f"train_{p.name}" for p in projects()}


def test_importing_the_dag_files_loads_no_heavy_library(facts: Any) -> None:
    """Each task imports its file: five trivial tasks took 94 s with heavy ones, 8.5 s without."""
    assert facts["heavy"] == []


def test_runs_are_daily_without_catch_up_and_one_at_a_time(dag: Any) -> None:
    assert (dag["catchup"], dag["max_active_runs"]) == (False, 1)
    assert dag["schedule"] == "0 9 * * *"
    assert (dag["start"][:10], dag["end"][:10]) == ("2013-01-01", "2013-12-31")
    assert dag["paused"] is False  # the runs of a backfill would wait forever


def test_each_step_is_one_task_in_order(dag: Any) -> None:
    upstream = {name: task["upstream"] for name, task in dag["tasks"].items()}
    assert upstream == {
        "window": [],
        "extract": ["window"],
        "validate": ["extract"],
        "train": ["extract", "validate"],
        "evaluate": ["extract", "train", "validate"],
        "gate": ["evaluate", "extract"],
        "keep_current": ["gate"],
        "release.register": ["evaluate", "extract", "gate"],
        "release.promote": ["gate", "release.register"],
        "report": ["evaluate", "extract", "gate", "keep_current", "release.promote", "validate"],
    }


def test_tasks_are_bounded_in_time_and_retried_with_growing_pauses(dag: Any) -> None:
    assert all(0 < task["limit_s"] <= 1_800 for task in dag["tasks"].values())
    retried = {n: t for n, t in dag["tasks"].items() if n not in ("window", "gate")}
    assert all(t["retries"] == 2 and t["backoff"] == 2.0 for t in retried.values())


def test_errors_that_a_retry_cannot_fix_are_not_retried(dag: Any) -> None:
    names = {name.strip("'>") for name in dag["never_retried"]}
    assert names == {"BundleRefused", "DataContractBroken", "InvalidProject", "UnsupportedPipeline"}


def test_training_and_promotion_have_pools_of_their_own(dag: Any) -> None:
    pools = {name: task["pool"] for name, task in dag["tasks"].items()}
    assert pools["train"] == "training"
    assert pools["release.register"] == pools["release.promote"] == "promotion"


def test_maintenance_of_the_offline_store_runs_daily_and_one_at_a_time(facts: Any) -> None:
    dag = facts["dags"]["maintain_offline_store"]
    assert (dag["schedule"], dag["catchup"], dag["paused"]) == ("40 3 * * *", False, False)
    assert dag["max_active_runs"] == 1
    [task] = dag["tasks"].values()
    assert task["retries"] == 2
    assert 0 < task["limit_s"] <= 3_600


def test_airflow_runs_our_files_and_no_other_that_appears_beside_them(tmp_path: Path) -> None:
    """Somebody who could write there would otherwise have their code run."""
    dags = tmp_path / "dags"
    shutil.copytree(DAGS, dags, ignore=shutil.ignore_patterns("__pycache__"))
    for planted in ("planted.py", "train.py", "sub/training.py", "__init__.py", "training.py.py"):
        file = dags / planted
        file.parent.mkdir(exist_ok=True)
        file.write_text("from airflow.sdk import DAG\nDAG('planted')\n")

    files = run_module(environment(tmp_path), "files", str(dags))

    assert files == ["maintenance.py", "refused_projects.py", "training.py"]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, mlflow_url: str) -> dict[str, str]:
    """An Airflow with its database, and an offline store of 47 synthetic days."""
    home = tmp_path_factory.mktemp("airflow_run")
    env = environment(
        home,
        EVENTIDE_STATE_DIR=str(home / "state"),
        EVENTIDE_MLFLOW_URL=mlflow_url,
        **MLFLOW_LOGIN_SETTINGS,
    )
    write_synthetic_flights(str(home / "state" / "offline"), days=47, flights_a_day=700)
    airflow = Path(sys.executable).with_name("airflow")
    subprocess.run([airflow, "db", "migrate"], env=env, capture_output=True, check=True)
    return env


@pytest.fixture(scope="module")
def finished_run(installation: dict[str, str]) -> Any:
    return run_module(installation, "run", "train_flight_delay", f"{RUN_DAY}T09:00:00Z")


def test_a_whole_run_ends_with_a_champion(finished_run: Any) -> None:
    assert finished_run["state"] == "success"
    states = {(name, index): state for name, index, state in finished_run["tasks"]}
    assert {states["train", i] for i in range(LEARNERS)} == {"success"}
    assert states["release.promote", -1] == "success"
    assert states["keep_current", -1] == "skipped"


def test_the_run_reports_what_it_did(finished_run: Any) -> None:
    report = finished_run["report"]
    assert (report["day"], report["decision"], report["version"]) == (RUN_DAY, "promoted", "1")
    metrics = report["metrics"]
    assert metrics[report["candidate"]]["log_loss"] < metrics["timetable"]["log_loss"]


def test_the_command_line_reports_that_the_day_was_trained_before(
    finished_run: Any, installation: dict[str, str]
) -> None:
    """The steps are the same, with Airflow or without, and a rerun changes nothing."""
    import json

    eventide = Path(sys.executable).with_name("eventide")
    completed = subprocess.run(
        [eventide, "train", "flight_delay", "--day", RUN_DAY, "--json"],
        env=installation,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(completed.stdout) == finished_run["report"]
    assert "promoted earlier" in completed.stderr


def test_a_run_with_too_little_data_is_held_with_the_reason(
    installation: dict[str, str], finished_run: Any
) -> None:
    held_run = run_module(installation, "run", "train_flight_delay", "2013-01-12T09:00:00Z")
    states = {name: state for name, _, state in held_run["tasks"]}
    assert held_run["state"] == "success"
    assert (states["validate"], states["release.promote"]) == ("skipped", "skipped")
    assert held_run["report"]["decision"] == "held"
    assert "training_rows" in held_run["report"]["reasons"][0]


def test_maintenance_keeps_the_versions_that_training_read(
    installation: dict[str, str], finished_run: Any
) -> None:
    maintenance_run = run_module(
        installation, "run", "maintain_offline_store", "2013-03-01T03:40:00Z"
    )
    assert maintenance_run["state"] == "success"
    tables = {table["event"]: table for table in maintenance_run["report"]}
    assert tables["flight.departed"]["files_after"] > 40
    assert all(tables[name]["pinned"] for name in ("flight.departed", "weather.observed"))


def test_a_project_with_a_mistake_is_an_import_error_and_the_others_keep_their_dags(
    tmp_path: Path,
) -> None:
    """Airflow shows import errors in its UI."""
    code = f"""
import ml.projects
ml.projects.__path__.append({str(tmp_path / "projects")!r})
import dags.training
assert dags.training.train_flight_delay.dag_id == "train_flight_delay"
import dags.refused_projects
"""
    (tmp_path / "projects").mkdir()
    (tmp_path / "projects" / "made_model.py").write_text("1 / 0")
    env = environment(tmp_path / "airflow")
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert "InvalidProject: made_model is not trained: ZeroDivisionError" in done.stderr
    assert "made_model.py:1" in done.stderr

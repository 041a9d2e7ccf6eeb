"""Inspects and runs our DAGs in a process of its own: Airflow reads its settings at import.

python -m tests.support.processes.airflow facts
python -m tests.support.processes.airflow files FOLDER
python -m tests.support.processes.airflow run DAG_ID LOGICAL_DATE
"""

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

HEAVY = ("pandas", "polars", "sklearn", "mlflow", "great_expectations", "deltalake", "matplotlib")
DAGS = Path(__file__).resolve().parents[3] / "dags"


def environment(home: Path, **settings: str) -> dict[str, str]:
    """Of an Airflow in the folder `home`, on SQLite."""
    return {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        **settings,
    }


def run_module(env: dict[str, str], *arguments: str) -> Any:
    """Run this module in that environment; return the JSON that it writes."""
    result = Path(env["AIRFLOW_HOME"]) / "answer.json"
    completed = subprocess.run(
        [sys.executable, "-m", "tests.support.processes.airflow", *arguments, str(result)],
        env=env,
        cwd=DAGS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stdout[-6_000:] + completed.stderr[-3_000:]
    return json.loads(result.read_text())


def dag_facts() -> dict[str, Any]:
    """What the DAG files declare, and which heavy libraries their import loads."""
    from airflow.dag_processing.dagbag import DagBag

    modules_before = set(sys.modules)
    bag = DagBag(str(DAGS))
    loaded = [m for m in HEAVY if m in set(sys.modules) - modules_before]
    return {
        "errors": bag.import_errors,
        "heavy": loaded,
        "dags": {name: _dag_facts(dag) for name, dag in bag.dags.items()},
    }


def dag_files(folder: str) -> list[str]:
    """The files that Airflow would run of that folder of DAGs."""
    from airflow.utils.file import list_py_file_paths

    files = list_py_file_paths(folder, safe_mode=False)
    return sorted(str(Path(file).relative_to(folder)) for file in files)


def _dag_facts(dag: Any) -> dict[str, Any]:
    return {
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "paused": dag.is_paused_upon_creation,
        "schedule": dag.timetable.expression,
        "start": str(dag.start_date),
        "end": str(dag.end_date),
        "tasks": {
            task.task_id: {
                "upstream": sorted(task.upstream_task_ids),
                "pool": task.pool,
                "retries": task.retries,
                "limit_s": task.execution_timeout.total_seconds(),
                "backoff": task.retry_exponential_backoff,
            }
            for task in dag.tasks
        },
        "never_retried": [
            name.rsplit(".", 1)[-1]
            for name in (str(r.exception) for r in _rules(dag.default_args.get("retry_policy")))
        ],
    }


def _rules(policy: Any) -> list[Any]:
    return [] if policy is None else policy.rules


def run(dag_id: str, logical_date: str) -> dict[str, Any]:
    """Run a whole DAG in this process, on an existing database; creates the pools."""
    from airflow.dag_processing.dagbag import DagBag
    from airflow.models.pool import Pool
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    for pool in ("training", "promotion"):
        Pool.create_or_update_pool(pool, 1, "", include_deferred=False)
    dag = DagBag(str(DAGS)).dags[dag_id]
    [reporting] = dag.leaves
    dag_run = dag.test(logical_date=datetime.fromisoformat(logical_date))
    with create_session() as session:
        reported: Any = session.scalars(
            XComModel.get_many(
                run_id=dag_run.run_id,
                task_ids=reporting.task_id,
                key="return_value",
                dag_ids=dag_id,
            )
        ).first()
    states = [(t.task_id, t.map_index, t.state) for t in dag_run.get_task_instances()]
    value = reported.value if reported else None
    return {
        "state": dag_run.state,
        "tasks": sorted(states),
        "report": json.loads(value) if isinstance(value, str) else value,
    }


if __name__ == "__main__":
    command, *arguments, file = sys.argv[1:]
    do: dict[str, Any] = {"facts": dag_facts, "files": dag_files, "run": run}
    result = do[command](*arguments)
    Path(file).write_text(json.dumps(result, default=str))

"""Daily maintenance of the offline store: the DAG `maintain_offline_store`.

Compacts the files of closed days, writes checkpoints and deletes versions that no reader needs any
more. It may run while ingest writes, and running it again changes nothing: the next run does what a
failed or omitted one did not. The same by hand: `eventide features maintain`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pendulum
from airflow.sdk import CronDataIntervalTimetable, dag, result, task


@dag(
    dag_id="maintain_offline_store",
    schedule=CronDataIntervalTimetable("40 3 * * *", timezone="UTC"),
    start_date=pendulum.datetime(2013, 1, 1),
    is_paused_upon_creation=False,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=3),
    tags=["upkeep"],
    doc_md=__doc__,
)
def maintenance() -> None:
    """One task: one table after the other."""
    maintain()


@result
@task(
    retries=2,
    retry_delay=timedelta(minutes=5),
    retry_exponential_backoff=2.0,
    execution_timeout=timedelta(hours=1),
)
def maintain() -> list[dict[str, Any]]:
    """What was done, by table."""
    from dataclasses import asdict

    from features.bootstrap import maintain_offline
    from infra.settings import load_settings

    def on_progress(line: str) -> None:
        print(line)  # noqa: T201

    return [asdict(table) for table in maintain_offline(load_settings(), on_progress=on_progress)]


maintenance()

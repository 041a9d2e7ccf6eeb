"""Puts the tour together: Airflow's login, the stores that its report reads, its pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from features.bootstrap.stores import open_offline
from features.catalog import domain
from features.contracts.predictions import Outcome
from infra.clock import to_us
from infra.kafka.topic_reader import read_all
from infra.local_stack.logins import airflow_login, mlflow_login
from infra.process.progress import StatusCallback
from infra.settings import Settings
from ml.demo.closing_report import Pages, report_lines, sample_lines
from ml.demo.tour import Tour, run_tour, write_summary


def run_demo(tour: Tour, settings: Settings, *, on_progress: StatusCallback) -> None:
    """Run the tour, print its report, write its summary.

    Raises:
        TourFailed: a command failed.
    """
    results = run_tour(tour, on_progress=lambda line: on_progress(f"\n== {line}"))
    # The stack may have chosen other ports than those of the settings that we started with.
    settings = type(settings)()
    results["samples"] = _samples(tour, settings)
    file = settings.state_dir / "demo" / "summary.json"
    write_summary(results, file)
    on_progress("")
    for line in report_lines(results, results["samples"], _pages(settings)):
        on_progress(line)
    on_progress(f"all of it: {file}")


def _samples(tour: Tour, settings: Settings) -> list[str]:
    return sample_lines(
        _outcomes(settings, domain(tour.domain).predictions_topic),
        domain=domain(tour.domain),
        store=open_offline(settings),
        start_us=to_us(tour.history_until),
        end_us=to_us(tour.live_until),
    )


def _outcomes(settings: Settings, topic: str) -> Iterator[Any]:
    decode = msgspec.json.Decoder(Outcome).decode
    return (decode(m.value() or b"") for m in read_all(settings.kafka, [topic]))


def _pages(settings: Settings) -> Pages:
    return Pages(
        mlflow=settings.mlflow_url,
        mlflow_login=mlflow_login(settings),
        airflow=settings.airflow_url,
        airflow_login=airflow_login(settings),
    )

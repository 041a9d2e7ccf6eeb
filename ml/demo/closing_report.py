"""The results of the tour, in plain words."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from features.contracts.predictions import Outcome
from features.definitions import Domain
from features.stores.ports import OfflineStore
from infra.clock import from_us
from infra.http_client import Login
from infra.wording import counted

SAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class Pages:
    """Addresses and login of the web pages."""

    mlflow: str
    mlflow_login: Login | None
    airflow: str
    airflow_login: Login


def report_lines(results: Mapping[str, Any], samples: Iterable[str], pages: Pages) -> Iterator[str]:
    """The closing report, a line at a time."""
    yield from _events(results)
    yield ""
    for run in results["training"]:
        yield from _training(run)
    yield ""
    yield from _live(results["report"])
    yield ""
    yield "five of them:"
    yield from (f"  {line}" for line in samples)
    yield ""
    yield _audit(results["audit"])
    yield f"time     {results['seconds']['all']:.0f} s in all"
    yield ""
    yield from _where(pages)


def sample_lines(
    outcomes: Iterable[Outcome], *, domain: Domain, store: OfflineStore, start_us: int, end_us: int
) -> list[str]:
    """Some predictions of the span, from the lowest to the highest, and what really happened."""
    predictions = sorted(
        (
            o
            for o in outcomes
            if o.score is not None and start_us <= (o.decision_time_us or 0) < end_us
        ),
        key=lambda o: (o.score or 0.0, o.event_id or ""),
    )
    last = len(predictions) - 1
    chosen = [predictions[i * last // (SAMPLES - 1)] for i in range(SAMPLES)] if predictions else []
    rows = partial(_rows_by_flight, store, domain, [o.entity_id for o in chosen])
    flights = rows(
        "flight.scheduled",
        "carrier",
        "flight",
        "origin",
        "dest",
        "scheduled_departure_us",
        "local_minute",
    )
    landed = rows("flight.landed", "arrival_delay_minutes")
    cancelled = rows("flight.cancelled")
    return [
        _sample(
            o.score or 0.0,
            flights[str(o.entity_id)],
            landed.get(str(o.entity_id)),
            o.entity_id in cancelled,
        )
        for o in chosen
    ]


def _rows_by_flight(
    store: OfflineStore, domain: Domain, ids: Sequence[str | None], event: str, *columns: str
) -> dict[str, dict[str, Any]]:
    import polars as pl

    table = store.read(domain.by_name[event], columns=("flight_id", *columns))
    selected = table.filter(pl.col("flight_id").is_in(ids))
    return {row["flight_id"]: row for row in selected.iter_rows(named=True)}


def _sample(
    score: float, flight: Mapping[str, Any], landed: Mapping[str, Any] | None, cancelled: bool
) -> str:
    day: datetime = from_us(flight["scheduled_departure_us"])
    hour, minute = divmod(flight["local_minute"], 60)
    name = f"{flight['carrier']} {flight['flight']} {flight['origin']} to {flight['dest']}"
    return (
        f"{name}, {hour:02}:{minute:02} on {day:%-d %B}: {score:.0%} likely to land 15 minutes late"
        f" or more; it {_fate(landed, cancelled=cancelled)}"
    )


def _fate(landed: Mapping[str, Any] | None, *, cancelled: bool) -> str:
    if landed is None:
        return "was cancelled" if cancelled else "was diverted, or had not landed yet"
    delay = landed["arrival_delay_minutes"]
    if delay == 0:
        return "landed on the minute"
    return f"landed {counted(abs(delay), 'minute')} {'late' if delay > 0 else 'early'}"


def _events(results: Mapping[str, Any]) -> Iterator[str]:
    history, live = results["history"], results["live"]
    yield (
        f"history  {history['total']:,} events"
        + (f", sent at {history['events_per_second']:,} a second" if history["sent"] else "")
    )
    yield f"live     {live['total']:,} events, in step with ingest and serving"
    yield f"after    {results['after']['total']:,} events, with the labels of the last requests"
    yield f"stored   {results['audit']['totals']['events']['stored']:,} rows in the offline store"


def _training(run: Mapping[str, Any]) -> Iterator[str]:
    outcome = run["report"]
    yield (
        f"{run['day']}  {outcome['decision']}: {outcome['candidate'] or 'no candidate'},"
        f" {outcome['training_rows']:,} rows, evaluated on {outcome['evaluation_rows']:,} later"
        f" ones ({run['seconds']:.0f} s)"
    )
    for name, numbers in outcome["metrics"].items():
        auc = f", AUC {numbers['roc_auc']:.3f}" if "roc_auc" in numbers else ""
        yield f"            {name}: log loss {numbers['log_loss']:.4f}{auc}"
    for reason in outcome["reasons"]:
        yield f"            {reason}"


def _live(report: Mapping[str, Any]) -> Iterator[str]:
    total = report["total"]
    yield (
        f"live     {report['forecasts']:,} predictions, {report['rejected']} rejected,"
        f" {report['inexact']} with inexact features, {report['stale']} with stale ones;"
        f" {total['model']['rows']:,} have landed"
    )
    for title, key in (
        ("the model", "model"),
        ("the timetable alone", "reference"),
        ("the base rate", "base_rate"),
    ):
        scores = total[key]
        auc = "" if scores["roc_auc"] is None else f", AUC {scores['roc_auc']:.3f}"
        yield f"         {title:20} log loss {scores['log_loss']:.4f}{auc}"


def _audit(audit: Mapping[str, Any]) -> str:
    events, requests = audit["totals"]["events"], audit["totals"]["requests"]
    return (
        f"audit    {events['sent']:,} sent, {events['missing']} missing,"
        f" {events['doubled']} doubled;"
        f" {requests['asked']:,} requests, {requests['unanswered']} without an outcome,"
        f" {requests['answered_twice']} with two;"
        f" {audit['online']['values_different']} of {audit['online']['values_checked']:,}"
        " online values differ from history"
    )


def _where(pages: Pages) -> Iterator[str]:
    yield f"MLflow   {pages.mlflow}{_login(pages.mlflow_login)}"
    yield "         (choose 'Model training' at the top left)"
    yield f"Airflow  {pages.airflow}{_login(pages.airflow_login)}"
    yield "next     eventide status"
    yield "         eventide replay flights --from 2013-04-04 --until 2013-04-05 --speed 600"
    yield "         eventide train flight_delay --day 2013-04-03"
    yield "         make down"


def _login(login: Login | None) -> str:
    return f", user {login[0]}, password {login[1]}" if login else ""

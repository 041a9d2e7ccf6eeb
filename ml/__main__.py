"""The commands of `ml`."""

import os
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.command_options import MOMENTS, Json, print_json, utc_us
from infra.tables import numbers, print_table, words
from ml.demo.command import demo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.settings import Settings
    from ml.bootstrap import Trainer
    from ml.live_performance import LiveReport, VersionReport
    from ml.results import RunOutcome

app = typer.Typer()

Project = Annotated[str, typer.Argument(help="A model declared in ml/projects.")]
DAY_FORMATS = ["%Y-%m-%d"]


@app.command()
def check(as_json: Json = False) -> None:
    """Check every declaration: all that `eventide features check` does, and the projects.

    A project is compared with its domain and its columns. Its learners are built, but not trained.
    All mistakes are reported, each with file, line and remedy.

    Exit code 1: there is a mistake. It stops only the domain or the project that it is in.
    """
    from features import catalog
    from features.catalog_check.catalog import check_catalog
    from features.presentation.mistakes import check_rows, check_text
    from infra.discovery import forgetting_imports
    from ml import projects
    from ml.project_check import check_projects

    with forgetting_imports(catalog, projects):
        of_domains = check_catalog(catalog)
        of_projects = check_projects(projects, of_domains.domains)
    if as_json:
        print_json(check_rows(of_domains, of_projects.projects, of_projects.mistakes))
    else:
        typer.echo(check_text(of_domains, of_projects.projects, of_projects.mistakes))
    if of_domains.mistakes or of_projects.mistakes:
        raise typer.Exit(1)


@app.command()
def train(
    project: Project,
    day: Annotated[
        datetime,
        typer.Option(formats=DAY_FORMATS, help="The run day; its cut-off is the run's now."),
    ],
    json: Json = False,
) -> None:
    """Train a model as of a day, evaluate it, and promote it if it passes every gate.

    Runs the steps of the Airflow DAG `train_<project>` in this process: extract, validate, train,
    evaluate, gate, register, promote. Running the same day again changes nothing.

    Exit code 0: promoted, or held for a stated reason. 1: a step failed.
    """
    from ml.orchestration import run_day

    outcome = run_day(
        _trainer(project), day.date(), on_progress=lambda line: typer.echo(line, err=True)
    )
    _print(outcome) if json else _describe_outcome(outcome)


@app.command()
def report(
    project: Project,
    begin: Annotated[
        datetime,
        typer.Option("--from", formats=MOMENTS, help="First decision time, UTC."),
    ],
    until: Annotated[
        datetime,
        typer.Option(formats=MOMENTS, help="End of the decision times, UTC, exclusive."),
    ],
    json: Json = False,
) -> None:
    """Compare the served predictions with what really happened.

    Two baselines score the same decisions: the share of positives before the span, and the
    project's reference model, trained on what was known before the span.

    Exit code 1: the span has no prediction, or none of its predictions has a label yet.
    """
    trainer = _trainer(project)
    live_report = trainer.live_report(start_us=utc_us(begin), end_us=utc_us(until))
    _print(live_report) if json else _describe_report(live_report)


@app.command()
def backfill(
    project: Project,
    first: Annotated[
        datetime, typer.Option("--from", formats=DAY_FORMATS, help="The first run day.")
    ],
    last: Annotated[
        datetime, typer.Option("--until", formats=DAY_FORMATS, help="The last run day, inclusive.")
    ],
    again: Annotated[
        bool, typer.Option("--again", help="Also run the days whose run has failed.")
    ] = False,
    json: Json = False,
) -> None:
    """Train past days through Airflow, one after the other, and report each run.

    A day that has already run is not run again. Exit code 1: a run failed; the reason is printed.
    """
    from ml.backfill import backfill as run_days
    from ml.bootstrap import airflow_api

    days = run_days(
        airflow_api(_settings()),
        project,
        first=first.date(),
        last=last.date(),
        again=again,
        on_progress=lambda line: typer.echo(line, err=True),
    )
    if json:
        _print(days)
    for day in days:
        if not json:
            typer.echo(f"{day.day} {day.state} in {day.seconds:.0f} s: {day.report}")
        for task, why in day.failures.items():
            typer.echo(f"{day.day} {task} failed: {why}", err=True)
    if any(day.state != "success" for day in days):
        raise typer.Exit(1)


app.command()(demo)
models = typer.Typer(help="The versions of a model in the registry.", no_args_is_help=True)
app.add_typer(models, name="models")


@models.command()
def convert(project: Project, json: Json = False) -> None:
    """Write the bundles of a model's versions in the format of this release.

    A bundle of this format records what each column means, so that serving can refuse a column that
    means something else. One of before gets the meanings of today's declarations: run this before
    you change them. Converted are the versions that an alias names (champion, previous,
    challenger). Each keeps its number. Trees of the first format are converted, and have to give
    the scores that were stored at training. A bundle of this format stays as it is.

    Exit code 1: a bundle was refused, its stored scores are gone, or its columns are.
    """
    from ml.conversion import convert_all, describe

    trainer = _trainer(project)
    conversions = convert_all(
        trainer.project.name,
        service=trainer.project.service,
        registry=trainer.registry,
        work=trainer.work,
        on_progress=lambda line: typer.echo(line, err=True),
    )
    _print(conversions) if json else typer.echo("\n".join(describe(conversions)))


def _settings() -> "Settings":
    from infra.settings import load_settings

    return load_settings()


def _trainer(project: str) -> "Trainer":
    from ml.bootstrap import Trainer, set_switches

    set_switches(os.environ)
    return Trainer.of(project, _settings())


def _print(record: Any) -> None:
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(record), indent=2).decode() + "\n")


def _describe_outcome(outcome: "RunOutcome") -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if outcome.metrics:
        print_table(
            console,
            (*words("on later days"), *numbers("log loss", "ROC AUC", "PR AUC", "ECE", "bias")),
            [(name, *_metric_cells(metrics)) for name, metrics in outcome.metrics.items()],
        )
    for warning in outcome.warnings:
        console.print(f"warning: {warning}", markup=False)
    version = f"version {outcome.version}" if outcome.version else f"champion {outcome.champion}"
    console.print(f"{outcome.project} {outcome.day}: {outcome.decision} ({version})", style="bold")
    for reason in outcome.reasons:
        console.print(f"  {reason}", markup=False)


def _metric_cells(metrics: "Mapping[str, float | None]") -> list[str]:
    values = [metrics.get(m) for m in ("log_loss", "roc_auc", "pr_auc", "ece", "bias")]
    return ["" if v is None else f"{v:.4f}" for v in values]


def _describe_report(report: "LiveReport") -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.print(
        f"{report.project}, decisions {report.start} to {report.end}, as of {report.as_of}"
    )
    measures = ("labelled", "log loss", "ROC AUC", "base rate", "reference", "its AUC")
    print_table(
        console,
        (*words("version"), *numbers(*measures)),
        [(v.version, *_cells(v)) for v in (*report.versions, report.total)],
    )
    difference = report.minus_reference
    bounds = (
        f"[{difference.lower:+.4f}, {difference.upper:+.4f}], 90 % over days"
        if difference.has_bounds
        else "(of one day: no interval over days)"
    )
    console.print(f"log loss minus the reference's: {difference.value:+.4f} {bounds}")
    console.print(
        f"{report.predictions:,} predictions, {report.rejected:,} requests rejected, "
        f"{report.unlabelled:,} without a label, {report.inexact:,} with inexact features, "
        f"{report.stale:,} with stale ones"
    )


def _cells(version: "VersionReport") -> list[str]:
    auc, plain = version.model.roc_auc, version.reference.roc_auc
    return [
        f"{version.model.rows:,}",
        f"{version.model.log_loss:.4f}",
        "" if auc is None else f"{auc:.4f}",
        f"{version.base_rate.log_loss:.4f}",
        f"{version.reference.log_loss:.4f}",
        "" if plain is None else f"{plain:.4f}",
    ]

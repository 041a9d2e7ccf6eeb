"""The command that writes a training set."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from infra.clock import DAY, now_us
from infra.command_options import MOMENTS, Json, print_result, utc_us


def export(
    service: Annotated[
        str | None, typer.Argument(help="Name of a service, such as flight_delay.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Name of a label of its domain.")] = None,
    start: Annotated[
        datetime | None, typer.Option("--from", formats=MOMENTS, help="First decision time, UTC.")
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(formats=MOMENTS, help="End of the decision times, UTC, exclusive."),
    ] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(
            "--as-of",
            formats=MOMENTS,
            help="The cut-off, UTC: only events known before it are used. Default: now.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for training_set.parquet and manifest.json.")
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(help="Folder (or manifest.json) of an earlier export to repeat."),
    ] = None,
    slice_days: Annotated[
        float,
        typer.Option(
            min=0.01, help="Days of decisions in memory at a time; the rows are the same."
        ),
    ] = 30.0,
    as_json: Json = False,
) -> None:
    """Write a training set: a row for each decision, with its features and its label.

    Each value is the one that serving had, or would have had, at the decision. A decision enters
    when it is at least `max_wait` of its label old at the cut-off. The same command with the same
    --as-of gives the same rows and the same content sha256 in the manifest, whatever events have
    arrived since.

    A folder that holds other rows is not changed (exit code 1).

        eventide features export flight_delay --label late15 --from 2013-01-01 --until 2013-04-01
        --as-of 2013-04-02 --out sets/spring

    --like alone repeats an earlier export at the table versions that its manifest names. Exit code
    1: the rows differ.

        eventide features export --like sets/spring
    """
    named = {"SERVICE": service, "--label": label, "--from": start, "--until": until, "--out": out}
    if like is not None:
        if as_of or any(named.values()):
            raise typer.BadParameter(
                "--like repeats an export: leave out every option that chooses rows or a folder"
            )
        _export_again(like, slice_days, as_json=as_json)
    elif service and label and start and until and out:
        span = (utc_us(start), utc_us(until))
        cut_off_us = utc_us(as_of) if as_of else now_us()
        _export((service, label), span, cut_off_us, out, slice_days, as_json=as_json)
    else:
        missing = ", ".join(name for name, value in named.items() if value is None)
        raise typer.BadParameter(f"missing: {missing}; or give --like alone")


def _export(
    names: tuple[str, str],
    span_us: tuple[int, int],
    cut_off_us: int,
    folder: Path,
    slice_days: float,
    *,
    as_json: bool,
) -> None:
    from features.bootstrap.training_sets import export_training_set
    from features.catalog import domains
    from features.presentation.training_set import exporting, sentence
    from features.retrieval.training_set import TrainingSetSpec, find_service_and_label
    from infra.settings import load_settings

    service, label = find_service_and_label(domains(), *names)
    spec = TrainingSetSpec(
        service=service,
        label=label,
        start_us=span_us[0],
        end_us=span_us[1],
        known_before_us=cut_off_us,
    )
    with exporting(Console(stderr=True, highlight=False)) as on_progress:
        manifest, new = export_training_set(
            load_settings(), spec, folder, slice_us=round(slice_days * DAY), on_progress=on_progress
        )
    print_result(
        {"manifest": manifest, "new": new},
        lambda: sentence(manifest, folder, new=new),
        as_json=as_json,
    )


def _export_again(place: Path, slice_days: float, *, as_json: bool) -> None:
    from features.bootstrap.training_sets import repeat_export
    from features.catalog import domains
    from features.presentation.training_set import difference, exporting
    from features.retrieval.training_set import changed_declarations, read_manifest
    from infra.settings import load_settings

    before = read_manifest(place)
    changed = changed_declarations(before, domains())
    with exporting(Console(stderr=True, highlight=False)) as on_progress:
        manifest = repeat_export(
            load_settings(), before, slice_us=round(slice_days * DAY), on_progress=on_progress
        )
    same = before.content_sha256 == manifest.content_sha256
    print_result(
        {"manifest": manifest, "same": same},
        lambda: difference(before, manifest, changed),
        as_json=as_json,
    )
    if not same:
        raise typer.Exit(1)

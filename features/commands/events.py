"""The commands about events: topics, recording, schemas."""

import os
from pathlib import Path
from typing import Annotated

import typer

from infra.command_options import Json, print_result


def topics(context: typer.Context, as_json: Json = False) -> None:
    """Create every declared topic that does not exist yet. Running it again changes nothing.

    A topic that exists is checked: a setting by which it could delete, merge or refuse an event is
    an error that names the remedy.
    """
    if context.invoked_subcommand is not None:
        return
    from features.catalog import domains
    from features.contracts.topics import OFFSETS_RETENTION_MINUTES, topic_specs
    from infra.kafka.admin import ensure_topics, forgets_groups_after_minutes
    from infra.settings import load_settings

    kafka, specs = load_settings().kafka, topic_specs(domains())
    created = ensure_topics(kafka, specs)
    minutes = forgets_groups_after_minutes(kafka)
    if minutes is not None and minutes < OFFSETS_RETENTION_MINUTES:
        typer.echo(
            f"the brokers forget a group without members after {minutes} minutes: ingest and"
            " serving then look for their positions in what they wrote, which takes longer;"
            f" set offsets.retention.minutes={OFFSETS_RETENTION_MINUTES} or more",
            err=True,
        )
    print_result(
        {"created": created, "topics": [s.name for s in specs]},
        lambda: f"{len(specs)} topics; created now: {', '.join(created) or 'none'}",
        as_json=as_json,
    )


def accept_gap(
    reason: Annotated[
        str, typer.Option(help="Why the loss is accepted. Without it the gaps are only listed.")
    ] = "",
    by: Annotated[str, typer.Option(help="Who accepts it. Default: the user.")] = "",
    as_json: Json = False,
) -> None:
    """List what the brokers have lost, or accept the loss so that ingest and serving go on.

    There is a gap when a topic was deleted and created again, when the brokers lost records, or
    when records were deleted before they were read. Ingest and serving then refuse to start. To
    accept the loss, stop both and give a --reason. The offline store records what was lost, when,
    who accepted it and why, and `eventide audit` shows it. The online store is rebuilt.

    Exit code 1: there is no gap to accept, or ingest or serving still runs.
    """
    from features.bootstrap.maintenance import accept_gaps, current_gaps
    from features.presentation.audit import accepted_as_text, gap_as_plain
    from infra.process.users import user_name
    from infra.settings import load_settings

    settings = load_settings()
    if not reason:
        gaps = current_gaps(settings)
        lines = [str(gap) for gap in gaps]
        hint = "\nto accept this loss: `eventide topics accept-gap --reason WHY`"
        print_result(
            [gap_as_plain(gap) for gap in gaps],
            lambda: "\n".join(lines) + hint if gaps else "there is no gap",
            as_json=as_json,
        )
        return
    entries = accept_gaps(
        settings, by=by or user_name(os.geteuid()), reason=reason, on_progress=lambda _: None
    )
    print_result(entries, lambda: "\n".join(map(accepted_as_text, entries)), as_json=as_json)


def recording(
    domain: Annotated[str, typer.Argument(help="The domain. Default: all.")] = "",
) -> None:
    """Build the recordings, once: download their sources, verify them, convert them to events."""
    from features.catalog import domains
    from features.replay.recordings import build, has_recording, recording_of
    from infra.settings import load_settings

    names = [domain] if domain else [d.name for d in domains() if has_recording(d.name)]
    for name in names:
        typer.echo(build(recording_of(name), Path(load_settings().recordings)))


def schemas(
    write: Annotated[bool, typer.Option("--write", help="Bring the files up to date.")] = False,
    page: Annotated[
        bool, typer.Option("--page", help="Only print the page docs/reference/events.md.")
    ] = False,
) -> None:
    """Check that the JSON Schema files in the repository match the event records.

    Exit code 1: a file differs, or its change would break readers of the old version.
    """
    from features.catalog import domains
    from features.contracts import json_schema as files
    from features.presentation.events_page import events_page

    if page:
        typer.echo(events_page(domains()), nl=False)
        return
    schema_files = list(files.schema_files(domains()))
    for path in files.write(schema_files) if write else ():
        typer.echo(f"wrote {path}")
    if mistakes := [f.mistake for f in schema_files if f.mistake]:
        typer.echo("\n".join(mistakes), err=True)
        raise typer.Exit(1)

"""The commands about events: topics, recording, schemas."""

from pathlib import Path
from typing import Annotated

import typer

from infra.command_options import Json, print_result


def topics(as_json: Json = False) -> None:
    """Create every declared topic that does not exist yet. Running it again changes nothing."""
    from features.catalog import domains
    from features.contracts.topics import topic_specs
    from infra.kafka.admin import ensure_topics
    from infra.settings import load_settings

    specs = topic_specs(domains())
    created = ensure_topics(load_settings().kafka, specs)
    print_result(
        {"created": created, "topics": [s.name for s in specs]},
        lambda: f"{len(specs)} topics, {len(created)} created: {', '.join(created) or '-'}",
        as_json=as_json,
    )


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

"""The commands about the stores: ingest, audit, rebuild, maintain, pins."""

from typing import Annotated

import typer
from rich.console import Console

from infra.command_options import Json, print_json, print_result
from infra.process.signals import stop_at_signal


def ingest(
    health_port: Annotated[
        int,
        typer.Option(
            help="Port of /healthz, /readyz and /metrics on 127.0.0.1; 0 takes any free one."
        ),
    ] = 8081,
) -> None:
    """Write events from Kafka to the offline and the online feature store.

    Each store has its positions beside its data, so no event is lost or counted twice when a
    process is killed. Malformed records go to the topic ingest.dlq.

    The first SIGTERM or Ctrl-C writes what was read and ends with exit code 0, the second ends at
    once. Exit code 1: Kafka or a store cannot be used. 3: another process ingests under this
    instance's name. 75: the loop hung and was ended; a new process continues from the stored
    positions.
    """
    from features.bootstrap.ingestion import ingest_until
    from infra.logging import configure_logging
    from infra.settings import load_settings

    settings = load_settings()
    configure_logging(json=settings.log_json, level=settings.log_level)
    ingest_until(stop_at_signal(), settings, health_port=health_port)


def audit(
    as_json: Json = False,
    settled: Annotated[
        bool, typer.Option("--settled", help="Also fail while any record is still waiting.")
    ] = False,
) -> None:
    """Compare every record in Kafka with the stores and the outcomes.

    Exit code 1 when a record is missing or stored twice, when a request has no outcome or two, or
    when a feature in the online store differs from history. Records that are not processed yet
    count as `waiting`, which is no error: the command can run at any time.
    """
    from features.bootstrap.maintenance import audit_now
    from features.presentation.audit import as_plain, show
    from infra.settings import load_settings

    console = Console(stderr=True, highlight=False)
    with console.status("reading positions") as status:
        report = audit_now(load_settings(), on_progress=status.update)
    if as_json:
        print_json(as_plain(report))
    else:
        show(report, Console(highlight=False))
    if not report.clean or (settled and not report.settled):
        raise typer.Exit(1)


def rebuild(
    from_topics: Annotated[
        bool,
        typer.Option("--from-topics", help="Only clear it; ingest then fills it from the topics."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Rebuild the online store from the offline one, and replace it in one step.

    Needed after a view's declaration has changed, after the store's folder was deleted, and when
    its file cannot be opened. Ingest itself detects and repairs damaged values.

    It runs beside ingest and serving. They see the old values until all new ones are written, also
    when this command is killed. Ingest then reads the events since the start of the rebuild from
    the topics. For these seconds requests are scored without those events. Running it again changes
    nothing.

    Memory holds the values of one view and 250,000 events, or those of one day if it has more. The
    disk holds the new values twice for a while. Exit code 1: a store does not respond, or there is
    no offline store yet.

    With --from-topics the store is cleared at once and ingest reads all topics again. This does not
    need the offline store, but takes longer, and until it is done requests are scored without most
    of their history.
    """
    from features.bootstrap.maintenance import empty_online, rebuild_online
    from infra.settings import load_settings

    if from_topics:
        empty_online(load_settings())
        print_result(
            {"emptied": True},
            lambda: "the online store is empty; `eventide ingest` fills it from the topics",
            as_json=as_json,
        )
        return
    console = Console(stderr=True, highlight=False)
    with console.status("reading tables") as status:
        result = rebuild_online(load_settings(), on_progress=status.update)
    print_result(
        result,
        lambda: (
            f"computed {result.values:,} values of {result.views} views"
            f" from {result.events:,} events"
        ),
        as_json=as_json,
    )


def maintain(
    as_json: Json = False,
) -> None:
    """Maintain the offline store: compact it, write checkpoints, delete files that it has replaced.

    For each event's table it merges the files of each closed day, writes a checkpoint, and deletes
    two kinds of files: those that left the table more than EVENTIDE_UPKEEP__RETENTION_HOURS ago,
    and those that crashed writers left. Pinned versions stay readable (`eventide features pins`).

    It runs beside a live ingest, which never waits for it. Running it again changes nothing. The
    DAG maintain_offline_store runs it once a day.
    """
    from features.bootstrap.maintenance import maintain_offline
    from infra.settings import load_settings

    console = Console(stderr=True, highlight=False)
    with console.status("reading tables") as status:
        tables = maintain_offline(load_settings(), on_progress=status.update)

    def text() -> str:
        lines = [
            f"{table.event}: {table.files_before:,} files, now {table.files_after:,}"
            f" ({table.days} days compacted); {table.deleted:,} deleted, {table.pinned} pinned"
            for table in tables
        ]
        return "\n".join(lines) or "the offline store has no table yet"

    print_result(tables, text, as_json=as_json)


def pins(
    release: Annotated[str, typer.Option(help="Release the pins of this name.")] = "",
    as_json: Json = False,
) -> None:
    """List the pinned versions of the offline tables, and which training run or export needs each.

    The next `eventide features maintain` deletes the files that only a released pin needed.
    """
    from features.bootstrap.stores import open_offline
    from infra.settings import load_settings

    store = open_offline(load_settings())
    if release:
        store.unpin(release)
    remaining = store.pins()
    if as_json:
        print_json(remaining)
        return
    for pin in remaining:
        typer.echo(f"{pin.name}: {pin.event} at version {pin.version}")

"""The commands about the stores: to fill, count, rebuild and look after them."""

from typing import Annotated

import typer
from rich.console import Console

from features.commands.options import Json, print_json, print_result
from infra.process.signals import stop_at_signal


def ingest(
    health_port: Annotated[
        int,
        typer.Option(
            help="Port of /healthz, /readyz and /metrics on 127.0.0.1; 0 takes any free one."
        ),
    ] = 8081,
) -> None:
    """Take events from Kafka into the offline and the online feature store.

    Nothing is lost and nothing counts twice, wherever a process is killed: each store keeps its
    position beside its data. Unreadable records go to the topic ingest.dlq.

    The first SIGTERM or Ctrl-C writes what was taken and ends with exit code 0, the second ends at
    once. Exit code 1: Kafka or the stores cannot be used. 3: another process ingests under this
    instance's name. 75: the loop hung and was ended; a new process goes on where it was.
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
        bool, typer.Option("--settled", help="Also fail while anything is still on its way.")
    ] = False,
) -> None:
    """Count all that the broker holds against the stores and the outcomes.

    Exit code 1 when anything is missing, doubled, unanswered, answered twice, or when a feature in
    the online store is not what history says. What is still on its way is `waiting`, and no fault:
    run it at any time.
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
        typer.Option("--from-topics", help="Only empty it; ingest fills it from the topics."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Make the online store again from the offline one, in one step.

    Needed after a change of a view's declaration, after the store's folder was deleted, and when
    its file cannot be opened. Ingest itself finds and repairs single damaged values.

    It runs beside ingest and serving. They see the old values until the new ones are all there,
    also when this command is killed. Ingest then brings what was stored since it began, from the
    topics: for these seconds requests are scored from what was known when it began. Running it
    again changes nothing.

    Memory holds the values of one view and 250,000 events, or those of one day if it has more. The
    disk holds the new values twice for a while. Exit code 1: a store does not answer, or there is
    no offline store yet.

    With --from-topics the store is empty at once and ingest reads all topics again. This takes
    longer, and until then requests are scored without most of their history; it does not need the
    offline store.
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
            f"made {result.values:,} values of {result.views} views from {result.events:,} events"
        ),
        as_json=as_json,
    )


def maintain(
    as_json: Json = False,
) -> None:
    """Keep the offline store quick and small: fewer files, a short log, nothing left over.

    For each event's table: puts the files of closed days together, writes a checkpoint, deletes
    files that left the table longer ago than EVENTIDE_UPKEEP__RETENTION_HOURS, and what crashed
    writers left. Pinned versions stay readable (`eventide features pins`).

    It runs beside a live ingest, which never waits for it. Running it again changes nothing. The
    DAG maintain_offline_store does it once a day.
    """
    from features.bootstrap.maintenance import maintain_offline
    from infra.settings import load_settings

    console = Console(stderr=True, highlight=False)
    with console.status("reading tables") as status:
        tables = maintain_offline(load_settings(), on_progress=status.update)

    def text() -> str:
        lines = [
            f"{table.event}: {table.files_before:,} files, now {table.files_after:,}"
            f" ({table.days} days put together); {table.deleted:,} deleted, {table.pinned} pinned"
            for table in tables
        ]
        return "\n".join(lines) or "the offline store has no table yet"

    print_result(tables, text, as_json=as_json)


def pins(
    release: Annotated[str, typer.Option(help="Forget the pins of this name.")] = "",
    as_json: Json = False,
) -> None:
    """Versions of the offline tables that stay readable, and for which training run or export.

    The files that only a released pin kept are deleted by the next `eventide features maintain`.
    """
    from features.bootstrap.stores import open_offline
    from infra.settings import load_settings

    store = open_offline(load_settings())
    if release:
        store.unpin(release)
    kept = store.pins()
    if as_json:
        print_json(kept)
        return
    for pin in kept:
        typer.echo(f"{pin.name}: {pin.event} at version {pin.version}")

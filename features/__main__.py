"""The commands of `features`."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console

from infra.clock import DAY, now_us, to_us
from infra.signals import stop_at_signal

if TYPE_CHECKING:
    from features.replay import Replayed

EXIT_STOPPED = 4
EXIT_FENCED = 3

app = typer.Typer()
declared = typer.Typer(no_args_is_help=True, help="What is declared, and the stores of it.")
app.add_typer(declared, name="features")

_MOMENTS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M"]
Domain = Annotated[str, typer.Argument(help="The domain whose recording is sent.")]


@app.command()
def ingest(
    health_port: int = typer.Option(
        8081, help="Port of /healthz, /readyz and /metrics on 127.0.0.1; 0 takes any free one."
    ),
) -> None:
    """Take events from Kafka into the offline and the online feature store.

    Nothing is lost and nothing counts twice, wherever a process is killed: each store keeps its
    position beside its data. Unreadable records go to the topic ingest.dlq.

    The first SIGTERM or Ctrl-C writes what was taken and ends with exit code 0, the second ends at
    once. Exit code 1: Kafka or the stores cannot be used. 3: another process ingests under this
    instance's name. 75: the loop hung and was ended; a new process goes on where it was.
    """
    from features.bootstrap import ingest_until
    from infra.kafka.errors import Fenced
    from infra.logs import configure_logging
    from infra.settings import load_settings

    settings = load_settings()
    configure_logging(json=settings.log_json, level=settings.log_level)
    try:
        ingest_until(stop_at_signal(), settings, health_port=health_port)
    except Fenced as error:
        typer.echo(f"error: {error}\n  {error.hint}", err=True)
        raise typer.Exit(EXIT_FENCED) from error


@app.command()
def audit(
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    settled: Annotated[
        bool, typer.Option("--settled", help="Also fail while anything is still on its way.")
    ] = False,
) -> None:
    """Count all that the broker holds against the stores and the outcomes.

    Exit code 1 when anything is missing, doubled, unanswered, answered twice, or when a feature in
    the online store is not what history says. What is still on its way is `waiting`, and no fault:
    run it at any time.
    """
    from features.audit_report import as_plain, show
    from features.bootstrap import audit_now
    from infra.settings import load_settings

    console = Console(stderr=True, highlight=False)
    with console.status("reading positions") as status:
        found = audit_now(load_settings(), say=status.update)
    if as_json:
        typer.echo(json.dumps(as_plain(found)))
    else:
        show(found, Console(highlight=False))
    if not found.clean or (settled and not found.settled):
        raise typer.Exit(1)


@app.command()
def topics(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Create every topic that is declared and not there yet. Running it again changes nothing."""
    from features.catalog import domains
    from features.topics import topic_specs
    from infra.kafka.admin import ensure_topics
    from infra.settings import load_settings

    specs = topic_specs(domains())
    created = ensure_topics(load_settings().kafka, specs)
    if as_json:
        typer.echo(json.dumps({"created": created, "topics": [s.name for s in specs]}))
    else:
        typer.echo(f"{len(specs)} topics, {len(created)} created: {', '.join(created) or '-'}")


@app.command()
def recording(
    domain: Annotated[str, typer.Argument(help="The domain; without it, every one.")] = "",
) -> None:
    """Build the recordings, once: fetch their sources, verify them, turn them into events."""
    from features.catalog import domains
    from features.recording import build, has_recording, recording_of
    from infra.settings import load_settings

    names = [domain] if domain else [d.name for d in domains() if has_recording(d.name)]
    for name in names:
        typer.echo(build(recording_of(name), Path(load_settings().recordings)))


@app.command()
def schemas(
    write: Annotated[bool, typer.Option("--write", help="Bring the files up to date.")] = False,
    page: Annotated[
        bool, typer.Option("--page", help="Only print the page docs/events.md.")
    ] = False,
) -> None:
    """Check that the JSON Schema files in the repository are those of the code.

    Exit code 1 when one is not, or when its change would break readers of the old version.
    """
    from features import schemas as files
    from features.catalog import domains
    from features.events_page import events_page

    if page:
        typer.echo(events_page(domains()), nl=False)
        return
    found = list(files.schema_files(domains()))
    for path in files.write(found) if write else ():
        typer.echo(f"wrote {path}")
    if mistakes := [f.mistake for f in found if f.mistake]:
        typer.echo("\n".join(mistakes), err=True)
        raise typer.Exit(1)


@app.command()
def replay(
    domain: Domain,
    start: Annotated[
        datetime | None, typer.Option("--from", formats=_MOMENTS, help="First emission time, UTC.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=_MOMENTS, help="Emission time to end before, UTC.")
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(min=0.001, help="Times as fast as it happened. Default: as fast as it goes."),
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Send only these events.")] = None,
    without: Annotated[list[str] | None, typer.Option(help="Leave these events out.")] = None,
    lockstep: Annotated[
        bool,
        typer.Option("--lockstep", help="A request waits until what came before it is ingested."),
    ] = False,
    late: Annotated[float, typer.Option(help="Fraction of the events to tell late.")] = 0.0,
    late_mean_minutes: Annotated[float, typer.Option(help="How late, on average.")] = 60.0,
    duplicates: Annotated[float, typer.Option(help="Fraction of the events to send twice.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Chooses which events are late or doubled.")] = 0,
    wait: Annotated[
        bool, typer.Option("--wait", help="Return when everything is stored, and answered.")
    ] = False,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds without progress that end a wait for others.")
    ] = 60.0,
    restart: Annotated[
        bool, typer.Option("--restart", help="Send all of it again, from the beginning.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Send a recording into Kafka, with the time stamps of the past.

    The position is committed with the events: a replay that was stopped or killed goes on where it
    was, without a gap or a double, when the same command is given again. Another span or another
    option is another replay with its own position.
    """
    from features.lockstep import STEP_MINUTES
    from features.replay_bootstrap import ReplayOptions, run_replay
    from features.replay_plan import ReplayPlan
    from infra.settings import load_settings

    plan = ReplayPlan(
        recording=domain,
        from_us=_utc_us(start),
        until_us=_utc_us(until),
        only=tuple(only or ()),
        without=tuple(without or ()),
        late=late,
        late_mean_minutes=late_mean_minutes,
        duplicates=duplicates,
        seed=seed,
        step_minutes=STEP_MINUTES if lockstep else 0,
    )
    done = run_replay(
        load_settings(),
        plan,
        ReplayOptions(
            speed=speed, lockstep=lockstep, wait=wait, restart=restart, patience_s=patience
        ),
        stop=stop_at_signal(),
        console=Console(stderr=True, highlight=False),
    )
    if as_json:
        typer.echo(json.dumps({**asdict(done), "events_per_second": _rate(done)}))
    else:
        typer.echo(_sentence(done))
    if done.stopped:
        raise typer.Exit(EXIT_STOPPED)


@declared.command("list")
def list_features(
    as_json: Annotated[bool, typer.Option("--json")] = False,
    page: Annotated[bool, typer.Option("--page", help="Print the page docs/views.md.")] = False,
) -> None:
    """Every view: what it is about, from which events, with how many features."""
    from features.catalog import domains
    from features.describe import views_table
    from features.views_page import views_page

    if page:
        typer.echo(views_page(domains()), nl=False)
        return
    rows = views_table(domains())
    if as_json:
        typer.echo(json.dumps(rows))
        return
    width = max(len(str(row["view"])) for row in rows)
    for row in rows:
        typer.echo(
            f"{row['view']:{width}}  {row['features']:3} features by {row['entity']}"
            f" from {row['source']}"
        )


@declared.command()
def describe(view: Annotated[str, typer.Argument(help="Name of a view.")]) -> None:
    """One view: its entity, source, windows and features, and what each of them means."""
    from features.catalog import domains
    from features.describe import describe_view, find_view

    typer.echo(describe_view(find_view(domains(), view)))


@declared.command()
def check(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Check every declaration as far as that goes without data: exit code 1 and the mistake, with
    its file and line, when one contradicts itself or cannot be computed.

    Without `eventide` the same happens when the module of a declaration is imported.
    """
    from features.catalog import domains
    from features.describe import check_domain

    found = [check_domain(domain) for domain in domains()]
    if as_json:
        typer.echo(json.dumps(found))
        return
    for domain in found:
        typer.echo(
            f"{domain['domain']}: {domain['events']} events, {domain['views']} views,"
            f" {domain['services']} services: sound"
        )


@declared.command()
def export(
    service: Annotated[
        str | None, typer.Argument(help="Name of a service, such as flight_delay.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Name of a label of its domain.")] = None,
    start: Annotated[
        datetime | None, typer.Option("--from", formats=_MOMENTS, help="First decision time, UTC.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=_MOMENTS, help="Decision time to end before, UTC.")
    ] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(
            "--as-of",
            formats=_MOMENTS,
            help="The cut-off, UTC: what was not known before it is not used. Default: now.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for training_set.parquet and manifest.json.")
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(help="Folder of an earlier export (or its manifest.json) to make again."),
    ] = None,
    slice_days: Annotated[
        float,
        typer.Option(min=0.01, help="Days of decisions in memory at a time. Changes no row."),
    ] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Write a training set: a row for each decision, with its features and what happened.

    Each value is the one that serving had, or would have had, at the decision. A decision enters
    when it is as old at the cut-off as its label may take. The same command with the same --as-of
    gives the same rows, whatever has come since: the content sha256 in the manifest says so.

    A folder that holds other rows is left as it is (exit code 1); one that holds the same stays.

        eventide features export flight_delay --label late15 --from 2013-01-01 --until 2013-04-01
        --as-of 2013-04-02 --out sets/spring

    With --like, and nothing else that says what to export, an earlier export is made again at the
    versions of the tables that its manifest names. Exit code 1 when its rows come out different.

        eventide features export --like sets/spring
    """
    named = {"SERVICE": service, "--label": label, "--from": start, "--until": until, "--out": out}
    if like is not None:
        if as_of or any(named.values()):
            raise typer.BadParameter("--like says what to export: name nothing else")
        _export_again(like, slice_days, as_json=as_json)
    elif service and label and start and until and out:
        span = (to_us(_utc(start)), to_us(_utc(until)))
        cut_off_us = to_us(_utc(as_of)) if as_of else now_us()
        _export((service, label), span, cut_off_us, out, slice_days, as_json=as_json)
    else:
        missing = ", ".join(name for name, value in named.items() if value is None)
        raise typer.BadParameter(f"say {missing}; or --like alone")


@declared.command()
def rebuild(
    from_topics: Annotated[
        bool,
        typer.Option("--from-topics", help="Only empty it; ingest fills it from the topics."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Make the online store again from the offline one, in one step.

    Needed after a change of a view's declaration, after the store's folder was deleted, and when
    its file cannot be opened. Single damaged values are found and mended by ingest itself.

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
    from features.bootstrap import empty_online, rebuild_online
    from infra.settings import load_settings

    if from_topics:
        empty_online(load_settings())
        typer.echo(
            json.dumps({"emptied": True})
            if as_json
            else "the online store is empty; `eventide ingest` fills it from the topics"
        )
        return
    console = Console(stderr=True, highlight=False)
    with console.status("reading tables") as status:
        found = rebuild_online(load_settings(), say=status.update)
    typer.echo(
        json.dumps(asdict(found))
        if as_json
        else f"made {found.values:,} values of {found.views} views from {found.events:,} events"
    )


@declared.command()
def maintain(
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Keep the offline store quick and small: fewer files, a short log, nothing left over.

    For each event's table: puts the files of closed days together, writes a checkpoint, deletes
    files that left the table longer ago than EVENTIDE_UPKEEP__RETENTION_HOURS, and what crashed
    writers left. Versions that a training run pinned stay readable (`eventide features pins`).

    It runs beside a live ingest, which never waits for it. Running it again changes nothing. The
    DAG maintain_offline_store does it once a day.
    """
    from features.bootstrap import maintain_offline
    from infra.settings import load_settings

    console = Console(stderr=True, highlight=False)
    with console.status("reading tables") as status:
        found = maintain_offline(load_settings(), say=status.update)
    if as_json:
        typer.echo(json.dumps([asdict(table) for table in found]))
        return
    for table in found:
        typer.echo(
            f"{table.event}: {table.files_before:,} files, now {table.files_after:,}"
            f" ({table.days} days put together); {table.deleted:,} deleted, {table.pinned} pinned"
        )
    if not found:
        typer.echo("the offline store has no table yet")


@declared.command()
def pins(
    release: Annotated[str, typer.Option(help="Forget the pins of this name.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Versions of the offline tables that stay readable, and for which training run.

    The files that only a released pin kept are deleted by the next `eventide features maintain`.
    """
    from features.bootstrap import open_offline
    from infra.settings import load_settings

    store = open_offline(load_settings())
    if release:
        store.unpin(release)
    found = store.pins()
    if as_json:
        typer.echo(json.dumps([asdict(pin) for pin in found]))
        return
    for pin in found:
        typer.echo(f"{pin.name}: {pin.event} at version {pin.version}")


def _export(
    names: tuple[str, str],
    span_us: tuple[int, int],
    cut_off_us: int,
    folder: Path,
    slice_days: float,
    *,
    as_json: bool,
) -> None:
    from features.bootstrap import export_training_set
    from features.catalog import domains
    from features.export_report import exporting, sentence
    from features.training_set import Wanted, find
    from infra.settings import load_settings

    service, label = find(domains(), *names)
    wanted = Wanted(
        service=service,
        label=label,
        start_us=span_us[0],
        end_us=span_us[1],
        known_before_us=cut_off_us,
    )
    with exporting(Console(stderr=True, highlight=False)) as told:
        made, new = export_training_set(
            load_settings(), wanted, folder, slice_us=round(slice_days * DAY), told=told
        )
    typer.echo(
        _plain({"manifest": made, "new": new}) if as_json else sentence(made, folder, new=new)
    )


def _export_again(place: Path, slice_days: float, *, as_json: bool) -> None:
    from features.bootstrap import repeat_export
    from features.export_report import difference, exporting
    from features.training_set import read_manifest
    from infra.settings import load_settings

    before = read_manifest(place)
    with exporting(Console(stderr=True, highlight=False)) as told:
        made = repeat_export(load_settings(), before, slice_us=round(slice_days * DAY), told=told)
    same = before.content_sha256 == made.content_sha256
    typer.echo(_plain({"manifest": made, "same": same}) if as_json else difference(before, made))
    if not same:
        raise typer.Exit(1)


def _plain(found: dict[str, object]) -> str:
    return msgspec.json.encode(found).decode()


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=moment.tzinfo or UTC)


def _utc_us(moment: datetime | None) -> int | None:
    return None if moment is None else to_us(_utc(moment))


def _rate(done: "Replayed") -> int:
    return round(done.sent / done.seconds) if done.seconds else 0


def _sentence(done: "Replayed") -> str:
    if not done.sent and not done.stopped:
        return f"all {done.total:,} events were sent before; --restart sends them again"
    text = f"sent {done.sent:,} events in {done.seconds:.1f} s ({_rate(done):,} a second)"
    if done.before:
        text += f", after {done.before:,} that were sent before"
    if done.stopped and done.before + done.sent == done.total:
        text += "; not waited until it is stored"
    elif done.stopped:
        text += f"; {done.total - done.before - done.sent:,} are left: the same command goes on"
    return text

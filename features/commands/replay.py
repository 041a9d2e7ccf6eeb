"""The command that sends a recording into Kafka."""

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from infra.command_options import MOMENTS, Json, print_result, utc_us
from infra.process.signals import stop_at_signal

if TYPE_CHECKING:
    from features.replay.replayer import Replayed

EXIT_STOPPED = 4


def replay(
    domain: Annotated[str, typer.Argument(help="The domain whose recording is sent.")],
    start: Annotated[
        datetime | None, typer.Option("--from", formats=MOMENTS, help="First emission time, UTC.")
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(formats=MOMENTS, help="End of the emission times, UTC, exclusive."),
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(min=0.001, help="Times as fast as it happened. Default: as fast as possible."),
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Send only these events.")] = None,
    without: Annotated[list[str] | None, typer.Option(help="Leave these events out.")] = None,
    lockstep: Annotated[
        bool,
        typer.Option("--lockstep", help="A request waits until all earlier events are ingested."),
    ] = False,
    late: Annotated[float, typer.Option(help="Fraction of the events to send late.")] = 0.0,
    late_mean_minutes: Annotated[float, typer.Option(help="Mean delay of the late events.")] = 60.0,
    duplicates: Annotated[float, typer.Option(help="Fraction of the events to send twice.")] = 0.0,
    seed: Annotated[
        int, typer.Option(help="Seed that chooses the late and the duplicate events.")
    ] = 0,
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Return when all is stored and each request has its outcome."),
    ] = False,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds without progress after which waiting is an error.")
    ] = 60.0,
    restart: Annotated[
        bool, typer.Option("--restart", help="Send everything again, from the beginning.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Send a recording to Kafka, with its own timestamps.

    The position is committed with the events. So the same command continues a replay that was
    stopped or killed, without gaps or duplicates. Another span or another option is another replay,
    with a position of its own.

    Exit code 4: the replay was stopped before everything was sent, or before --wait was satisfied.
    """
    from features.bootstrap.replay import ReplayOptions, run_replay
    from features.replay.lockstep import STEP_MINUTES
    from features.replay.plan import ReplayPlan
    from infra.settings import load_settings

    plan = ReplayPlan(
        recording=domain,
        from_us=utc_us(start) if start else None,
        until_us=utc_us(until) if until else None,
        only=tuple(only or ()),
        without=tuple(without or ()),
        late=late,
        late_mean_minutes=late_mean_minutes,
        duplicates=duplicates,
        seed=seed,
        step_minutes=STEP_MINUTES if lockstep else 0,
    )
    replayed = run_replay(
        load_settings(),
        plan,
        ReplayOptions(
            speed=speed, lockstep=lockstep, wait=wait, restart=restart, patience_s=patience
        ),
        stop=stop_at_signal(),
        console=Console(stderr=True, highlight=False),
    )
    result = {**asdict(replayed), "events_per_second": _rate(replayed)}
    print_result(result, lambda: _sentence(replayed), as_json=as_json)
    if replayed.stopped:
        raise typer.Exit(EXIT_STOPPED)


def _rate(replayed: "Replayed") -> int:
    return round(replayed.sent / replayed.seconds) if replayed.seconds else 0


def _sentence(replayed: "Replayed") -> str:
    if not replayed.sent and not replayed.stopped:
        return f"all {replayed.total:,} events were sent earlier; --restart sends them again"
    text = (
        f"sent {replayed.sent:,} events in {replayed.seconds:.1f} s ({_rate(replayed):,} a second)"
    )
    if replayed.before:
        text += f", after {replayed.before:,} that were sent earlier"
    if replayed.stopped and replayed.before + replayed.sent == replayed.total:
        text += "; stopped before everything was stored"
    elif replayed.stopped:
        left = replayed.total - replayed.before - replayed.sent
        text += f"; {left:,} are left: the same command continues"
    return text

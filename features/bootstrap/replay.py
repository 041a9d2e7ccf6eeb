"""Puts a replay together: recording, Kafka, the stores that it waits for, progress."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console

from features.bootstrap.stores import open_online
from features.catalog import domain
from features.contracts.topics import REPLAY_PROGRESS
from features.definitions import Domain
from features.errors import FeatureError
from features.presentation.replay import sending, waiting
from features.replay.lockstep import PATIENCE_S, LockStep, wait_for
from features.replay.plan import ReplayPlan, rows
from features.replay.recordings import built, recording_of
from features.replay.replayer import BATCH, AtSpeed, Pace, Position, Replayed, replay
from infra.kafka.admin import end_offsets
from infra.kafka.errors import Fenced
from infra.kafka.logs import log_offsets
from infra.kafka.observers import group_observer, group_positions
from infra.kafka.partitions import Positions
from infra.kafka.topic_reader import read_all
from infra.kafka.transactions import TransactionalProducer
from infra.settings import Settings

if TYPE_CHECKING:
    import polars as pl

_PAUSE_S = 0.2


class Overtaken(FeatureError):
    """Another replay of the recording has started. What this one had not committed is aborted."""

    hint = "one replay of a recording runs at a time; the later one continues"


@dataclass(frozen=True, kw_only=True)
class ReplayOptions:
    """How a plan is sent. `speed` None: as fast as possible. `wait`: until everything is stored.

    Waiting for ingest or serving is an error when they make no progress for `patience_s`.
    """

    speed: float | None = None
    lockstep: bool = False
    wait: bool = False
    restart: bool = False
    patience_s: float = PATIENCE_S


def run_replay(
    settings: Settings,
    plan: ReplayPlan,
    options: ReplayOptions,
    *,
    stop: threading.Event,
    console: Console,
) -> Replayed:
    """Send what is not sent yet. With `options.wait`, wait until ingest and serving are done.

    Raises:
        RecordingMissing: the recording was not built.
        Stalled: something that the replay waits for does not move.
        Overtaken: another replay of the recording has started.
    """
    if options.lockstep and options.speed is not None:
        raise FeatureError("a replay in lock-step goes as fast as the pipeline: leave out --speed")
    declared = domain(plan.recording)
    file = built(recording_of(plan.recording), Path(settings.recordings))
    frame = rows(plan, file, requests=_requests(declared))
    producer = TransactionalProducer(
        settings.kafka, transactional_id=f"eventide-replay-{plan.recording}"
    )
    with (
        sending(console, len(frame)) as on_progress,
        _pace(settings, declared, frame, options, stop) as pace,
    ):
        try:
            result = replay(
                plan,
                frame,
                events=declared.by_name,
                producer=producer,
                read_position=lambda key: read_position(settings, key),
                pace=pace,
                restart=options.restart,
                stopping=stop.is_set,
                on_progress=on_progress,
            )
        except Fenced as error:
            raise Overtaken(f"another replay of {plan.recording!r} has started") from error
    if options.wait and not result.stopped:
        _wait_until_stored(settings, declared, options, console, stop)
        return replace(result, stopped=stop.is_set())
    return result


def read_position(settings: Settings, key: str) -> Position | None:
    """The newest committed position of a plan."""
    newest = None
    for message in read_all(settings.kafka, [REPLAY_PROGRESS]):
        if message.key() == key.encode():
            newest = msgspec.json.decode(message.value() or b"", type=Position)
    return newest


@contextmanager
def _pace(
    settings: Settings,
    declared: Domain,
    frame: pl.DataFrame,
    options: ReplayOptions,
    stop: threading.Event,
) -> Iterator[Pace]:
    if not options.lockstep:
        yield AtSpeed(frame, speed=options.speed, sleep=stop.wait)
        return
    online = open_online(settings, readonly=True)
    try:
        with group_observer(settings.kafka, settings.serving.group) as answered:
            yield LockStep(
                frame,
                requests=_requests(declared),
                applied=lambda: log_offsets(online.positions(), online.origins()),
                answered=answered,
                batch=BATCH,
                sent_before=_ends(settings, declared),
                patience_s=options.patience_s,
                stopping=stop.is_set,
            )
    finally:
        online.close()


def _ends(settings: Settings, declared: Domain) -> Positions:
    """The ends of the topics that hold anything: an empty one leaves no position in a group."""
    return {p: end for p, end in end_offsets(settings.kafka, declared.by_name).items() if end > 0}


def _wait_until_stored(
    settings: Settings,
    declared: Domain,
    options: ReplayOptions,
    console: Console,
    stop: threading.Event,
) -> None:
    """Wait until ingest has stored every event. In lock-step, also wait for every outcome.

    The positions of ingest's group are committed behind both stores.
    """
    ends = _ends(settings, declared)
    groups = [(settings.ingest.group, ends, "ingest has not stored all sent events")]
    if options.lockstep:
        request_ends = {p: end for p, end in ends.items() if p.topic in _requests(declared)}
        groups.append(
            (settings.serving.group, request_ends, "serving has not written all outcomes")
        )
    for group, group_ends, reason in groups:
        with waiting(console, group) as left:
            wait_for(
                partial(group_positions, settings.kafka, group),
                group_ends,
                reason=reason,
                patience_s=options.patience_s,
                pause_s=_PAUSE_S,
                on_progress=left,
                stopping=stop.is_set,
            )


def _requests(declared: Domain) -> frozenset[str]:
    return frozenset(s.decision.request.name for s in declared.services)

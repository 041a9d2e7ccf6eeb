"""A replay that is killed again and again sends every event once, in order."""

import random
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path

import msgspec
import polars as pl
import pytest

from features.contracts.topics import REPLAY_PROGRESS
from features.replay.replayer import Position
from infra.clock import to_us
from infra.kafka.message import Message
from infra.kafka.observers import end_observer
from infra.kafka.partitions import Partition
from infra.kafka.topic_reader import read_all
from infra.settings import KafkaSettings
from tests.support.data.recordings import FOLDER, flights, flights_file
from tests.support.faults import FaultCounts
from tests.support.processes.commands import environment, run, running
from tests.support.servers import Broker, kafka_broker
from tests.support.waiting import wait_until

pytestmark = pytest.mark.fault

ROOT = Path(__file__).parents[2]
POSITIONS = Partition(REPLAY_PROGRESS, 0)
SHORT = date(2013, 1, 13)
# Each time the replay continues from there; a batch is 5,000 events and then the position.
STEPS = (
    ("before", "begin_transaction", 1),
    ("after", "begin_transaction", 1),
    ("after", "produce", 1),
    ("after", "produce", 5_000),  # all events, not the position
    ("before", "commit_transaction", 1),
    ("after", "commit_transaction", 1),
    ("before", "commit_transaction", 2),
    ("after", "commit_transaction", 2),
)


def _position(kafka: KafkaSettings) -> int:
    """The number of events that the committed position counts."""
    positions = [
        msgspec.json.decode(m.value() or b"", type=Position).sent
        for m in read_all(kafka, [REPLAY_PROGRESS])
    ]
    return positions[-1] if positions else 0


def test_a_replay_killed_repeatedly_leaves_no_gap_and_no_duplicate(
    tmp_path: Path, faults: FaultCounts
) -> None:
    flights_file()
    chance = random.Random(13)
    command = _replay(until=faults.replayed_until)
    with kafka_broker(tmp_path) as broker:
        kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
        env = environment(tmp_path, broker.bootstrap_servers, EVENTIDE_RECORDINGS=str(FOLDER))
        run("topics", env=env)
        # One open connection: a new one for each request takes longer than a small batch.
        with end_observer(kafka, [POSITIONS]) as ends:
            wait_until(lambda: POSITIONS in ends(), what="the new topic has a leader")
            for _ in range(faults.replay_kills):
                log = tmp_path / "replay.log"
                _kill_in_mid_flight(lambda: ends()[POSITIONS], command, env, chance, log=log)
        killed_at = _position(kafka)
        run(*command, env=env)
        until = faults.replayed_until
        assert 0 < killed_at < _rows(until).height, "the kills came too late to show anything"
        _check(broker, until)


def test_a_replay_killed_at_each_step_of_a_transaction_leaves_no_gap_and_no_duplicate(
    tmp_path: Path,
) -> None:
    flights_file()
    with kafka_broker(tmp_path) as broker:
        env = environment(tmp_path, broker.bootstrap_servers, EVENTIDE_RECORDINGS=str(FOLDER))
        run("topics", env=env)
        for moment, method, nth in STEPS:
            arguments = [moment, method, str(nth), *_replay(until=SHORT)]
            completed = subprocess.run(
                [sys.executable, "-m", "tests.support.processes.dying_replay", *arguments],
                env=env,
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            assert completed.returncode == -signal.SIGKILL, (
                arguments,
                completed.stdout,
                completed.stderr,
            )
        run(*_replay(until=SHORT), env=env)
        _check(broker, SHORT)


def _kill_in_mid_flight(
    end: Callable[[], int],
    command: Sequence[str],
    env: dict[str, str],
    chance: random.Random,
    *,
    log: Path,
) -> None:
    """Kill as soon as some offsets of the position's topic are written.

    A batch writes two of them, its position and the marker of its transaction, so some kills come
    between the two and some while the next batch is being sent.
    """
    reached = end() + chance.randint(1, 8)
    with running(*command, env=env, log=log) as process:
        wait_until(lambda: end() >= reached, what="batches are sent", limit_s=60, pause_s=0.005)
        assert process.poll() is None, f"the replay ended before it was killed: {log.read_text()}"
        process.kill()


def _replay(*, until: date) -> tuple[str, ...]:
    return ("replay", "flights", "--until", str(until))


def _rows(until: date) -> pl.DataFrame:
    until_us = to_us(datetime.combine(until, time(), tzinfo=UTC))
    return flights().filter(pl.col("known_at_us") < until_us)


def _check(broker: Broker, until: date) -> None:
    """What is committed is the span: every event once, those of one key in their order."""
    recorded = _rows(until)
    kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
    sent = list(read_all(kafka, recorded["event"].unique().to_list()))
    assert Counter(_ids(sent)) == Counter(recorded["event_id"])
    assert _by_key(sent) == {
        (event, key): ids
        for event, key, ids in recorded.group_by("event", "key", maintain_order=True)
        .agg("event_id")
        .iter_rows()
    }


class _Id(msgspec.Struct):
    event_id: str


def _ids(messages: Iterable[Message]) -> list[str]:
    return [msgspec.json.decode(m.value() or b"", type=_Id).event_id for m in messages]


def _by_key(messages: Iterable[Message]) -> dict[tuple[str, str], list[str]]:
    """The ids of each topic and key, in the order in which they arrived."""
    ids: dict[tuple[str, str], list[str]] = defaultdict(list)
    for m in messages:
        ids[m.topic(), (m.key() or b"").decode()] += _ids([m])
    return dict(ids)

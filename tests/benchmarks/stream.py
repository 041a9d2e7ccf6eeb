"""Ingest, serving and a whole year of flights, on a real broker.

    python -m tests.benchmarks.stream [--quick] [--no-peer] [--json FILE]

`eventide replay` sends the recording as fast as it goes while `eventide ingest` takes it into Delta
and LMDB: the seconds until all is stored. Then a second ingest, with stores of its own, takes the
same topics again, and `eventide serve` answers the requests from the online store with a linear
model: CPU of each process, from the moment it is ready. The peer: Quix Streams on the same topics
of the same broker, exactly once, with a function that does nothing.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import polars as pl

from features.bootstrap.stores import open_online
from features.catalog import domains
from features.catalog.flights import DOMAIN
from features.catalog.flights.events import REQUESTED
from features.catalog.flights.services import FLIGHT_DELAY
from features.contracts.topics import topic_specs
from infra.clock import to_us
from infra.kafka.admin import TopicSpec, end_offsets, ensure_topics
from infra.kafka.observers import group_positions
from infra.kafka.partitions import has_reached
from infra.settings import KafkaSettings, Settings
from tests.benchmarks.kit import (
    Bar,
    Cost,
    Line,
    Watched,
    cost_of,
    measure,
    parser,
    report,
    run_module,
)
from tests.benchmarks.peers.environment import python_of
from tests.support.data.bundles import a_bundle
from tests.support.data.recordings import flights_file
from tests.support.health_pages import health_page
from tests.support.processes.commands import environment, run, running
from tests.support.servers import free_port, kafka_broker
from tests.support.waiting import wait_until

TOPICS = tuple(e.name for e in DOMAIN.events)
UNTIL, UNTIL_QUICK = date(2014, 2, 1), date(2013, 1, 15)
LIMIT_S = 1_200.0


def main() -> int:
    """Measure, print the table, write JSON."""
    options = parser(__doc__).parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="eventide-bench-") as name,
        kafka_broker(Path(name)) as broker,
    ):
        kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
        table = lines(kafka, Path(name), options)
    report("stream", table, options, features=len(FLIGHT_DELAY.numbers))
    return 0


def lines(kafka: KafkaSettings, folder: Path, options: argparse.Namespace) -> list[Line]:
    """All that is measured on one broker."""
    ensure_topics(kafka, topic_specs(domains()))
    until = UNTIL_QUICK if options.quick else UNTIL
    sent = replay_year(kafka, folder / "first", until)
    ingested = catch_up("ingest", kafka, folder / "second", TOPICS)
    served = catch_up("serve", kafka, folder / "first", [REQUESTED.name])
    events, requests = recorded(until, TOPICS), recorded(until, [REQUESTED.name])
    peers: list[Cost | None] = [None, None]
    if not options.no_peer:
        peers = [quix(kafka, TOPICS, events), quix(kafka, [REQUESTED.name], requests)]
    return [
        Line(
            what=f"{events:,} events replayed and ingested",
            unit="s",
            ours=sent.seconds,
            bar=Bar(kind="at most", value=120),
        ),
        beside("ingest into Delta and LMDB", ingested, peers[0], events, most=3),
        Line(what="ingest", unit="MiB at most", ours=ingested.peak_mib),
        beside(f"serving {len(FLIGHT_DELAY.numbers)} features", served, peers[1], requests, most=5),
        Line(what="serving", unit="MiB at most", ours=served.peak_mib),
        Line(what="serving", unit="requests per s", ours=requests / served.seconds),
    ]


def beside(name: str, ours: Cost, peer: Cost | None, records: int, *, most: float) -> Line:
    """CPU of a record beside that of a peer that does nothing."""
    return Line(
        what=name,
        unit="CPU us",
        ours=ours.cpu_s / records * 1e6,
        peer=peer.cpu_s / records * 1e6 if peer else None,
        peer_name="Quix doing nothing",
        bar=Bar(kind="times as much", value=most),
    )


def replay_year(kafka: KafkaSettings, state: Path, until: date) -> Cost:
    """From the first event that is sent until all of them are stored."""
    env = environment(state, kafka.bootstrap_servers)
    with ready("ingest", env, state):
        command = ("replay", "flights", "--wait", "--until", until.isoformat())
        return measure(lambda: run(*command, env=env))[1]


def catch_up(command: str, kafka: KafkaSettings, state: Path, topics: Sequence[str]) -> Cost:
    """A process of ours from the moment it is ready until it has done all that is in the topics."""
    group = f"bench-{command}"
    env = environment(
        state,
        kafka.bootstrap_servers,
        EVENTIDE_INGEST__GROUP=group,
        EVENTIDE_SERVING__GROUP=group,
        EVENTIDE_MLFLOW_URL="http://127.0.0.1:9",
    )
    ends = {p: end for p, end in end_offsets(kafka, topics).items() if end}
    more = []
    if command == "serve":
        a_bundle(state / "bundle", FLIGHT_DELAY)
        more = ["--bundle", str(state / "bundle")]
    with ready(command, env, state, *more) as watched:
        wait_until(
            lambda: has_reached(group_positions(kafka, group), ends),
            what=f"{command} has done everything",
            limit_s=LIMIT_S,
            pause_s=0.5,
        )
        return watched.cost()


@contextmanager
def ready(command: str, env: dict[str, str], state: Path, *more: str) -> Iterator[Watched]:
    """A process of ours that says that it takes records; it ends with the block."""
    state.mkdir(parents=True, exist_ok=True)
    open_online(Settings(state_dir=state), readonly=False).close()
    port, log = free_port(), state / f"{command}.log"
    with running(command, "--health-port", str(port), *more, env=env, log=log) as process:
        wait_until(
            lambda: health_page(port, "/readyz")[0] == 200, what=f"{command} is ready", limit_s=60
        )
        yield Watched(process.pid)


def recorded(until: date, topics: Sequence[str]) -> int:
    """How many events the recording has of them."""
    frame = pl.scan_parquet(flights_file()).filter(
        pl.col("known_at_us") < to_us(until), pl.col("event").is_in(topics)
    )
    return int(frame.select(pl.len()).collect().item())


def quix(kafka: KafkaSettings, topics: Sequence[str], records: int) -> Cost:
    """The peer on as many records of the same topics."""
    output = f"quix-{len(topics)}"
    ensure_topics(kafka, [TopicSpec(name=output, partitions=4)])
    printed = run_module(
        "tests.benchmarks.peers.quix_peer",
        kafka.bootstrap_servers,
        *(*topics, "--output", output, "--records", records),
        python=python_of("quix"),
    )
    return cost_of(printed)


if __name__ == "__main__":
    sys.exit(main())

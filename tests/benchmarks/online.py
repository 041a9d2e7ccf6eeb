"""The online store: put and get 20 features of 1,000 entities at a time.

    python -m tests.benchmarks.online [--quick] [--no-peer] [--stores lmdb ...] [--json FILE]

Ours: what ingest does with 1,000 decoded readings (`OnlineSink`, duplicates dropped, position
kept in the same transaction), and what serving does with 1,000 requests (`FeatureReader`). The
peer: Feast's push to the same kind of store and `get_online_features(...).to_dict()`. CPU is that
of the client; a Valkey server, one for each side, works beside it.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from features.engine.event_rows import EventRows
from features.ingestion.compaction_watermark import CompactionWatermark
from features.ingestion.online_sink import OnlineSink
from features.retrieval.online import FeatureReader
from features.stores.lmdb import LmdbOnlineStore
from features.stores.ports import OnlineStore
from features.stores.redis.store import RedisOnlineStore
from infra.clock import HOUR
from infra.settings import IngestSettings
from tests.benchmarks import made
from tests.benchmarks.kit import Bar, Cost, Line, measure, parser, report, run_module
from tests.benchmarks.peers.environment import python_of
from tests.support.servers import valkey

ROWS = 1_000


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of online store, Feast's counterpart, and what we hold ourselves to."""

    open: Callable[[str], OnlineStore]
    on_server: bool
    peer: str
    put: float
    get: float


STORES = {
    "lmdb": Kind(open=LmdbOnlineStore, on_server=False, peer="sqlite", put=25, get=25),
    "redis": Kind(open=RedisOnlineStore, on_server=True, peer="redis", put=8, get=12),
}


def main() -> int:
    """Measure both, print the table, write JSON."""
    options = arguments()
    table = []
    for name in options.stores:
        with tempfile.TemporaryDirectory(prefix="eventide-bench-") as folder:
            table += lines(name, options, Path(folder))
    report("online", table, options)
    return 0


def arguments() -> argparse.Namespace:
    """Of the command line."""
    options = parser(__doc__)
    options.add_argument("--stores", nargs="+", choices=list(STORES), default=list(STORES))
    return options.parse_args()


def lines(name: str, options: argparse.Namespace, folder: Path) -> list[Line]:
    """One kind of store and its peer."""
    kind = STORES[name]
    batches = 5 if options.quick else 100
    put, get = ours(kind, folder / "ours", batches)
    put_rows = ROWS * batches
    peer = None if options.no_peer else feast(kind, folder / "peer", options)
    its_put, its_get = (None, None) if peer is None else (Cost(**peer["put"]), Cost(**peer["get"]))
    peer_name = f"Feast on {kind.peer}"
    return [
        Line(
            what=f"{name}: put {ROWS} entities at a time",
            unit="rows per CPU s",
            ours=put_rows / put.cpu_s,
            peer=peer_rows(options) / its_put.cpu_s if its_put else None,
            peer_name=peer_name,
            bar=Bar(kind="times more", value=kind.put),
        ),
        Line(
            what=f"{name}: put {ROWS} entities",
            unit="ms",
            ours=1_000 * put.seconds / batches,
            peer=1_000 * ROWS * its_put.seconds / peer_rows(options) if its_put else None,
            peer_name=peer_name,
        ),
        Line(
            what=f"{name}: get {ROWS} entities",
            unit="CPU ms",
            ours=1_000 * get.cpu_s / batches,
            peer=1_000 * its_get.cpu_s / reads(options) if its_get else None,
            peer_name=peer_name,
            bar=Bar(kind="times less", value=kind.get),
        ),
        Line(
            what=f"{name}: get {ROWS} entities",
            unit="ms",
            ours=1_000 * get.seconds / batches,
            peer=1_000 * its_get.seconds / reads(options) if its_get else None,
            peer_name=peer_name,
        ),
    ]


@contextmanager
def place(kind: Kind, folder: Path) -> Iterator[str]:
    """Where a store of the kind is: a folder, or a server that ends with the block."""
    folder.mkdir(parents=True)
    if not kind.on_server:
        yield str(folder / "store")
        return
    with valkey(folder) as server:
        yield server.url


def ours(kind: Kind, folder: Path, batches: int) -> tuple[Cost, Cost]:
    """The costs of our puts and gets."""
    with place(kind, folder) as address, closing(kind.open(address)) as store:
        return fill(store, batches), read(store, batches)


def fill(store: OnlineStore, batches: int) -> Cost:
    """What `batches` polls of 1,000 entities take."""
    ingest = IngestSettings()
    writer = OnlineSink(
        store,
        [made.NEWEST],
        duplicate_horizon_us=int(ingest.duplicate_horizon_hours * HOUR),
        watermark=CompactionWatermark(
            least_us=int(ingest.hold_hours * HOUR), most_us=int(ingest.hold_hours * HOUR)
        ),
    )
    writer.load([made.PARTITION])
    polls = [poll(n) for n in range(batches)]

    def put() -> None:
        for n, rows in enumerate(polls, 1):
            writer.write([rows], {made.PARTITION: n * ROWS})

    return measure(put)[1]


def read(store: OnlineStore, batches: int) -> Cost:
    """What as many batches of 1,000 requests take; every one of them finds its values."""
    reader = FeatureReader(made.SERVICE, store)
    as_of_us = np.full(ROWS, made.START_US + HOUR)
    request_batches = [requests(n) for n in range(batches)]
    assert not np.isnan(reader.vectors(request_batches[0], as_of_us).numbers).any()

    def get() -> None:
        for batch in request_batches:
            reader.vectors(batch, as_of_us)

    return measure(get)[1]


def poll(n: int) -> EventRows:
    """The n-th 1,000 entities, each once."""
    size = made.Size(readings=ROWS, labels=0, entities=10 * ROWS)
    readings = made.made_readings(size, seed=n)
    readings = made.Readings(
        sensor=np.arange(n * ROWS, (n + 1) * ROWS),
        event_time_us=np.full(ROWS, made.START_US + n),
        known_at_us=np.full(ROWS, made.START_US + n),
        values=readings.values,
    )
    return made.event_rows(readings, first_offset=n * ROWS)


def requests(n: int) -> list[Any]:
    """About the entities of the n-th poll."""
    names = made.names(np.arange(n * ROWS, (n + 1) * ROWS)).to_list()
    return [made.Asked(event_id=s, event_time_us=made.START_US, sensor=s) for s in names]


def feast(kind: Kind, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The costs of the peer's puts and gets."""
    size = made.Size(readings=ROWS, labels=1, entities=10 * ROWS)
    with place(kind, folder) as address:
        made.write_for_peer(folder, made.made_readings(size), size)
        costs: dict[str, Any] = run_module(
            "tests.benchmarks.peers.feast_peer",
            *("online", folder, "--store", kind.peer, "--rows", ROWS),
            *(("--redis", urlsplit(address).netloc) if kind.on_server else ()),
            *("--pushes", peer_rows(options) // ROWS, "--reads", reads(options)),
            python=python_of("feast"),
        )
    return costs


def peer_rows(options: argparse.Namespace) -> int:
    """How many rows the peer puts: it takes its time."""
    return ROWS * (2 if options.quick else 10)


def reads(options: argparse.Namespace) -> int:
    """How often the peer reads."""
    return 2 if options.quick else 20


if __name__ == "__main__":
    sys.exit(main())

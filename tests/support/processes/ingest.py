"""`eventide ingest` as a process under the control of a test, events for it, and its audit."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from confluent_kafka import KafkaError, Message, Producer

from features.catalog import domains, event_types
from features.catalog.flights.events import REGISTERED
from features.contracts.topics import topic_specs
from infra.kafka.admin import ensure_topics
from infra.kafka.config import producer_config
from infra.kafka.errors import KafkaFailed
from infra.kafka.partitions import Partition, has_reached
from infra.settings import KafkaSettings
from tests.support.data.recordings import flights
from tests.support.positions import ends_of, group_positions
from tests.support.processes.commands import EVENTIDE, environment, run
from tests.support.processes.service import ServiceProcess
from tests.support.servers import CLIENT_SESSIONS, free_port
from tests.support.waiting import wait_until

TOPICS = tuple(e.name for e in event_types())
PARTITIONS = tuple(Partition(e.name, n) for e in event_types() for n in range(e.partitions))
GROUP = "eventide-ingest"


class IngestProcess(ServiceProcess):
    """One `eventide ingest` with short limits, so that a test has many polls and flushes."""

    def __init__(
        self,
        state: Path,
        bootstrap_servers: str,
        *,
        instance: str = "0",
        within: Sequence[str] = (),
        **more: str,
    ) -> None:
        port = free_port()
        short = {
            "EVENTIDE_KAFKA__CLIENT": json.dumps(CLIENT_SESSIONS),
            "EVENTIDE_INGEST__INSTANCE": instance,
            "EVENTIDE_INGEST__FLUSH_SECONDS": "0.3",
            "EVENTIDE_INGEST__WATCHDOG_SECONDS": "10",
        }
        super().__init__(
            [*within, EVENTIDE, "ingest", "--health-port", str(port)],
            env=environment(state, bootstrap_servers, **(short | more)),
            port=port,
            log=state / f"ingest-{instance}.log",
        )

    def ready(self) -> bool:
        """Whether the process reports that it takes events."""
        return self.get("/readyz")[0] == 200


@contextmanager
def ingesting(state: Path, bootstrap_servers: str, **options: Any) -> Iterator[IngestProcess]:
    """A running process; killed at the end, if it still runs."""
    process = IngestProcess(state, bootstrap_servers, **options)
    try:
        yield process
    finally:
        process.kill()


class Source:
    """Sends the recorded flights in order; optionally repeats some and adds malformed records."""

    def __init__(self, kafka: KafkaSettings, events: pl.DataFrame | None = None) -> None:
        ensure_topics(kafka, topic_specs(domains()))
        self.sent = 0
        self.poison = 0
        self.resent = 0
        self._failed: list[str] = []
        # Without the aircraft register, which comes first: short spans would hold nothing else.
        frame = flights().filter(pl.col("event") != REGISTERED.name) if events is None else events
        self._events = frame.select("event", "key", "payload", "known_at_us").iter_rows()
        # Load continues while a broker restarts: every record is delivered, however long it takes.
        config = producer_config(kafka, transactional_id=None)
        self._producer = Producer({**config, "delivery.timeout.ms": 120_000})

    def send(self, count: int, *, poison_each: int = 0, twice_each: int = 0) -> None:
        """Send the next events. Each `poison_each`-th is followed by a malformed record, each
        `twice_each`-th is sent again."""
        for n in range(1, count + 1):
            topic, key, payload, known_us = next(self._events)
            self.put(topic, payload, key=key.encode(), timestamp_ms=known_us // 1_000)
            if poison_each and n % poison_each == 0:
                self.send_poison(topic, b"noise %d" % n, timestamp_ms=known_us // 1_000)
            if twice_each and n % twice_each == 0:
                self.resent += 1
                self.put(topic, payload, key=key.encode(), timestamp_ms=known_us // 1_000 + 1)

    def send_poison(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = b"flight-1",
        headers: list[tuple[str, bytes | None]] | None = None,
        timestamp_ms: int = 1_357_000_000_000,
    ) -> None:
        """Send a record that cannot be decoded."""
        self.poison += 1
        self.put(topic, value, key=key, headers=headers, timestamp_ms=timestamp_ms)

    def put(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None,
        timestamp_ms: int,
        headers: list[tuple[str, bytes | None]] | None = None,
    ) -> None:
        """Send one record as it is."""
        if headers is None:
            headers = [("schema", f"{topic}/1".encode())]
        self.sent += 1
        self._producer.produce(
            topic, value, key, timestamp=timestamp_ms, headers=list(headers), on_delivery=self._note
        )
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait until the brokers have everything."""
        assert self._producer.flush(120) == 0
        assert not self._failed, self._failed

    def _note(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._failed.append(error.str())


def reached(kafka: KafkaSettings) -> int:
    """How many records the group has committed; 0 while the broker does not answer."""
    try:
        positions = group_positions(kafka, GROUP)
    except KafkaFailed:
        return 0
    return sum(o for p, o in positions.items() if p.topic in TOPICS)


def all_ingested(kafka: KafkaSettings) -> bool:
    """Whether the group has committed the end of every topic."""
    try:
        positions = group_positions(kafka, GROUP)
        ends = ends_of(kafka, PARTITIONS)
    except KafkaFailed:
        return False
    return has_reached(positions, ends)


def wait_until_done(kafka: KafkaSettings, *processes: IngestProcess, limit_s: float = 90) -> None:
    """Wait until everything that was sent is ingested; processes that end are started again.

    All of them then run: one that still starts would not notice a SIGTERM, and die of it.
    """

    def condition() -> bool:
        for process in processes:
            process.restart_if_ended()
        return all_ingested(kafka) and all(process.get("/healthz")[0] for process in processes)

    wait_until(condition, what="everything is ingested", limit_s=limit_s, pause_s=0.2)


def audited(
    state: Path, bootstrap_servers: str, *, within: Sequence[str] = (), **more: str
) -> dict[str, Any]:
    """The report of `eventide audit --json`, whatever its verdict."""
    env = environment(state, bootstrap_servers, **more)
    completed = run("audit", "--json", env=env, ok=False, within=within)
    assert completed.stdout, completed.stderr
    report: dict[str, Any] = json.loads(completed.stdout)
    return report


def assert_all_in_place(report: dict[str, Any], source: Source) -> None:
    """Every record is stored or dead-lettered once, and the online store agrees with history."""
    expected = {
        "sent": source.sent,
        "stored": source.sent - source.poison,
        "dead_lettered": source.poison,
        "waiting": 0,
        "missing": 0,
        "doubled": 0,
        "resent": source.resent,
    }
    assert report["totals"]["events"] == expected, f"{report} is not {expected}"
    online = report["online"]
    assert online["waiting"] == online["values_different"] == 0, f"{online}"
    assert online["values_checked"] > 0, f"{online}"
    assert report["clean"], f"{report}"

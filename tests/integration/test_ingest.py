"""`eventide ingest` on a real broker: good events, noise, outages, restarts."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from features.catalog.flights.events import DEPARTED, FlightDeparted
from features.contracts.codec import encode
from features.ingestion.dead_letter_sink import DEAD_LETTERS
from infra.clock import MINUTE, now_us
from infra.kafka.admin import end_offsets
from infra.kafka.topic_reader import read_all
from infra.settings import KafkaSettings
from tests.support.processes.commands import run
from tests.support.processes.ingest import (
    TOPICS,
    IngestProcess,
    Source,
    assert_all_in_place,
    audited,
    ingesting,
    reached,
    wait_until_done,
)
from tests.support.servers import kafka_broker
from tests.support.waiting import wait_until

NOON_US = 1_357_041_600_000_000
_NUMBERS = count()


@dataclass(frozen=True, kw_only=True)
class Installation:
    """A broker, a state folder, and all events that the tests have sent so far."""

    kafka: KafkaSettings
    state: Path
    source: Source

    def ingest_all(self) -> IngestProcess:
        """Run ingest until everything is in, and end it."""
        self.source.flush()
        with ingesting(self.state, self.kafka.bootstrap_servers) as process:
            wait_until_done(self.kafka)
            assert process.stop() == 0, process.text()
        return process

    def assert_all_in_place(self) -> None:
        audit = audited(self.state, self.kafka.bootstrap_servers)
        assert_all_in_place(audit, self.source)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Each test of this module continues where the previous one ended, as operators do."""
    state = tmp_path_factory.mktemp("ingest")
    with kafka_broker(state) as broker:
        kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
        yield Installation(kafka=kafka, state=state, source=Source(kafka))


def departed(**changes: object) -> bytes:
    record = FlightDeparted(
        event_id=f"odd-{next(_NUMBERS)}",
        event_time_us=NOON_US,
        flight_id="flight-1",
        carrier="UA",
        flight=1,
        origin="EWR",
        dest="IAH",
        tailnum=None,
        departure_delay_minutes=3,
    )
    plain = json.loads(encode(record)) | changes
    return json.dumps({k: v for k, v in plain.items() if v != "leave out"}).encode()


NOISE = {
    "empty": (None, b""),
    "too_large": (b"\0" * 900_000, b'{"event_id": "' + b"x" * 300_000 + b'"}'),
    "not_json": (b"not JSON", b"\xff\xfe", departed(departure_delay_minutes=float("nan"))),
    "missing_field": (b"{}", departed(carrier="leave out")),
    "wrong_type": (b"[]", departed(carrier=7), departed(flight="one"), departed(origin=None)),
    "out_of_range": (departed(flight=10**30), departed(departure_delay_minutes=10**6)),
    "time_travel": (departed(event_time_us=NOON_US + 3_600_000_000),),
}


def test_malformed_records_become_dead_letters_and_their_neighbours_are_stored(
    site: Installation,
) -> None:
    source = site.source
    source.send(1_000, twice_each=50)
    for values in NOISE.values():
        for value in values:
            source.send_poison(DEPARTED.name, value, timestamp_ms=NOON_US // 1_000)
            source.send(5)
    other_schema: list[tuple[str, bytes | None]] = [("schema", b"flight.departed/2")]
    source.send_poison(DEPARTED.name, departed(), headers=other_schema)
    source.send_poison(DEPARTED.name, departed(), key=None)
    source.send_poison(DEPARTED.name, departed(), key=b"flight-2")
    # The broker itself refuses timestamps more than an hour ahead.
    soon_ms = (now_us() + 30 * MINUTE) // 1_000
    source.send_poison(DEPARTED.name, departed(), timestamp_ms=soon_ms)

    site.ingest_all()

    site.assert_all_in_place()
    dead_letters: dict[str, list[bytes | None]] = {}
    for message in read_all(site.kafka, [DEAD_LETTERS]):
        code = (dict(message.headers() or ())["dlq.error"] or b"").decode()
        dead_letters.setdefault(code, []).append(message.value())
    assert {code: len(values) for code, values in dead_letters.items()} == {
        **{code: len(values) for code, values in NOISE.items()},
        "time_travel": 2,
        "unknown_schema": 1,
        "bad_key": 2,
    }
    for code, values in NOISE.items():
        raw = [v or None for v in dead_letters[code]] if code == "empty" else dead_letters[code]
        assert {v for v in values if v} <= {v for v in raw if v}


def test_a_restart_continues_and_reads_nothing_twice(site: Installation) -> None:
    site.source.send(500)
    process = site.ingest_all()
    placed = [line for line in process.text().splitlines() if "partitions_placed" in line]
    assert f"records_done={sum(end_offsets(site.kafka, TOPICS).values()) - 500}" in placed[-1]
    site.assert_all_in_place()


def test_ingest_waits_for_an_unavailable_store_and_loses_nothing(site: Installation) -> None:
    offline, away = site.state / "offline", site.state / "offline.away"
    with ingesting(site.state, site.kafka.bootstrap_servers) as process:
        wait_until(process.ready, what="ingest is ready", limit_s=60)
        reached_before = reached(site.kafka)
        offline.rename(away)
        offline.write_text("in the way")
        site.source.send(700, poison_each=100)
        site.source.flush()
        try:
            wait_until(
                lambda: str(offline) in process.get("/readyz")[1],
                what="ingest says which store it waits for",
                limit_s=60,
                details=lambda: process.get("/readyz")[1] + process.text()[-3_000:],
            )
            assert process.get("/healthz")[0] == 200
            assert reached(site.kafka) == reached_before
        finally:
            offline.unlink()
            away.rename(offline)
        wait_until_done(site.kafka)
        assert process.ready()
        assert process.stop() == 0
    assert process.text().count("store_unavailable") < 20  # it backs off
    site.assert_all_in_place()


def test_the_online_store_is_rebuilt_while_ingest_runs(site: Installation) -> None:
    with ingesting(site.state, site.kafka.bootstrap_servers) as process:
        wait_until(process.ready, what="ingest is ready", limit_s=60)
        run("features", "rebuild", env=process.env)
        site.source.send(300)
        site.source.flush()
        wait_until_done(site.kafka)
        wait_until(
            lambda: audited(site.state, site.kafka.bootstrap_servers)["online"]["values_checked"],
            what="the online store has caught up",
            limit_s=60,
        )
        assert process.stop() == 0
    site.assert_all_in_place()


def test_health_and_metrics_count_the_ingested_records(site: Installation) -> None:
    with ingesting(site.state, site.kafka.bootstrap_servers) as process:
        wait_until(process.ready, what="ingest is ready", limit_s=60)
        site.source.send(200, poison_each=50)
        site.source.flush()
        wait_until_done(site.kafka)
        status, page = process.get("/metrics")
        assert process.stop() == 0
    assert status == 200
    lines = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    good = [v for k, v in lines.items() if "ingest_records_total" in k and 'outcome="good"' in k]
    assert sum(map(float, good)) == 200
    assert float(lines['eventide_ingest_dead_letters_total{error="not_json"}']) == 4
    assert float(lines["eventide_ingest_records_stale"]) == 0

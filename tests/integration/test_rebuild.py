"""`eventide features rebuild` and the repair of damage: on a real broker, beside ingest."""

import json
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import lmdb
import numpy as np
import pytest

from features.bootstrap.stores import open_offline
from features.catalog import event_types
from features.catalog.flights.events import REQUESTED, ForecastRequested
from features.catalog.flights.services import FLIGHT_DELAY
from features.contracts.codec import encode, encode_key
from features.retrieval.online import FeatureReader
from features.stores.lmdb import LmdbOnlineStore
from infra.settings import KafkaSettings, Settings
from ml.bundle.scoring import Bundle
from tests.support.data.bundles import a_bundle
from tests.support.data.messages import a_request
from tests.support.faults import FaultCounts
from tests.support.processes.commands import EVENTIDE, environment, run
from tests.support.processes.ingest import (
    IngestProcess,
    Source,
    assert_all_in_place,
    audited,
    ingesting,
    wait_until_done,
)
from tests.support.processes.serving import ServingProcess, Site, all_answered, outcomes, serving
from tests.support.servers import kafka_broker
from tests.support.waiting import wait_until


@dataclass(frozen=True, kw_only=True)
class Installation:
    """A broker, a state folder, and all the flights that the tests have sent so far."""

    kafka: KafkaSettings
    state: Path
    source: Source

    @property
    def online(self) -> Path:
        return self.state / "online"

    def wait_until_caught_up(self) -> None:
        """Includes the online store, which lags by the events that arrived during a rebuild."""
        self.source.flush()
        wait_until_done(self.kafka)
        wait_until(
            lambda: self._audited()["online"]["values_checked"] > 0,
            what="the online store has caught up",
            limit_s=120,
        )

    def assert_all_in_place(self) -> None:
        assert_all_in_place(self._audited(), self.source)

    def _audited(self) -> dict[str, dict[str, int]]:
        return audited(self.state, self.kafka.bootstrap_servers)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Each test of this module continues where the previous one ended, as operators do."""
    state = tmp_path_factory.mktemp("rebuild")
    with kafka_broker(state) as broker:
        kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
        yield Installation(kafka=kafka, state=state, source=Source(kafka))


@pytest.fixture
def ingest(site: Installation) -> Iterator[IngestProcess]:
    with ingesting(site.state, site.kafka.bootstrap_servers) as process:
        wait_until(process.ready, what="ingest is ready", limit_s=60)
        yield process


@contextmanager
def sending(source: Source) -> Iterator[None]:
    """A live source, with noise and repetitions, until the end of the block."""
    stop = threading.Event()

    def send() -> None:
        while not stop.wait(0.01):
            source.send(10, poison_each=9, twice_each=5)

    with ThreadPoolExecutor(1) as thread:
        sent = thread.submit(send)
        try:
            yield
        finally:
            stop.set()
            sent.result()


def rebuilt(process: IngestProcess) -> dict[str, int]:
    completed = run("features", "rebuild", "--json", env=process.env)
    summary: dict[str, int] = json.loads(completed.stdout)
    return summary


def test_before_anything_is_stored_the_error_says_what_to_do(site: Installation) -> None:
    env = environment(site.state, site.kafka.bootstrap_servers)
    completed = run("features", "rebuild", env=env, ok=False)
    assert completed.returncode == 1
    assert "eventide ingest" in completed.stderr


def test_two_rebuilds_under_load_lose_and_duplicate_nothing(
    site: Installation, ingest: IngestProcess
) -> None:
    site.source.send(2_000, twice_each=50)
    site.source.flush()
    wait_until_done(site.kafka)
    with sending(site.source):
        for _ in range(2):
            assert rebuilt(ingest)["values"] > 0
    site.wait_until_caught_up()
    assert ingest.text().count("position_moved") >= 1  # it was further on than what was read
    assert ingest.stop() == 0
    site.assert_all_in_place()


def test_a_rebuild_recreates_a_deleted_folder_beside_ingest(
    site: Installation, ingest: IngestProcess
) -> None:
    for file in site.online.iterdir():
        file.unlink()
    site.online.rmdir()
    rebuilt(ingest)
    site.source.send(300)
    site.wait_until_caught_up()
    assert ingest.stop() == 0
    site.assert_all_in_place()


def test_a_rebuild_killed_in_the_middle_leaves_a_store_that_ingest_continues_with(
    site: Installation, ingest: IngestProcess, faults: FaultCounts
) -> None:
    chance = random.Random(7)
    started = time.monotonic()
    rebuilt(ingest)
    whole_s = time.monotonic() - started
    for _ in range(faults.rebuild_kills):
        site.source.send(100)
        process = subprocess.Popen(
            [EVENTIDE, "features", "rebuild"], env=ingest.env, stderr=subprocess.DEVNULL
        )
        time.sleep(whole_s * chance.uniform(0.4, 1.0))  # where it hits does not matter
        process.kill()
        process.wait()
    site.wait_until_caught_up()
    assert ingest.stop() == 0
    site.assert_all_in_place()


def test_a_damaged_store_file_stops_ingest_and_the_error_names_the_remedy(
    site: Installation,
) -> None:
    assert site.online.is_dir()
    (site.online / "data.mdb").write_bytes(b"garbage" * 9_000)
    with ingesting(site.state, site.kafka.bootstrap_servers) as process:
        assert process.process.wait(60) == 1
        assert "eventide features rebuild" in process.text()
        rebuilt(process)
        process.start()
        site.source.send(100)
        site.wait_until_caught_up()
        assert process.stop() == 0
    site.assert_all_in_place()


def test_a_rebuild_from_topics_lets_ingest_fill_the_store(
    site: Installation, ingest: IngestProcess
) -> None:
    run("features", "rebuild", "--from-topics", env=ingest.env)
    site.wait_until_caught_up()  # although nothing new is sent
    assert ingest.stop() == 0
    site.assert_all_in_place()


def test_requests_wait_until_damaged_values_are_repaired_and_get_the_right_features(
    site: Installation, ingest: IngestProcess
) -> None:
    """All values are damaged, so every request reads damage. Ingest is paused meanwhile."""
    serving_site = Site(kafka=site.kafka, state=site.state)
    sha256 = a_bundle(serving_site.bundle, FLIGHT_DELAY)
    site.source.send(6_000)  # about the first 3,000 are aircraft registrations only
    site.wait_until_caught_up()
    with serving(serving_site) as server:
        wait_until(
            lambda: all_answered(serving_site), what="older requests are answered", limit_s=60
        )
        ingest.process.send_signal(signal.SIGSTOP)
        assert damage_all(site.online) > 0
        requests = send_requests(site, 200)
        wait_until(
            lambda: "damaged" in server.why_not_ready(), what="serving is not ready", limit_s=60
        )
        assert metrics(server)["eventide_serving_batches_damaged_total"] > 0
        assert not all_answered(serving_site)
        ingest.process.send_signal(signal.SIGCONT)
        wait_until(
            lambda: all_answered(serving_site), what="all requests are answered", limit_s=120
        )
        wait_until(server.ready, what="serving is ready again", limit_s=60)
        assert server.stop() == 0
    assert server.log.read_text().count("features_damaged") == 1
    site.wait_until_caught_up()
    counts = metrics(ingest)
    assert counts["eventide_ingest_online_values_damaged_total"] > 0
    assert counts["eventide_ingest_online_mended_total"] == 1
    assert ingest.stop() == 0
    site.assert_all_in_place()

    with closing(LmdbOnlineStore(str(site.online), readonly=True)) as store:
        as_of_us = np.array([r.event_time_us for r in requests])
        vectors = FeatureReader(FLIGHT_DELAY, store).vectors(requests, as_of_us)
    scores = Bundle.load(serving_site.bundle, sha256).score(vectors.categories, vectors.numbers)
    expected = sorted(zip([r.event_id for r in requests], scores.tolist(), strict=True))
    ids = {r.event_id for r in requests}
    predictions = [o for _, o in outcomes(serving_site) if o.event_id in ids]
    assert sorted((o.event_id, o.score) for o in predictions) == expected
    assert all(o.features_exact for o in predictions)


def test_the_scrubber_repairs_a_damaged_value_that_no_request_reads(
    site: Installation, ingest: IngestProcess
) -> None:
    site.source.send(100)
    site.wait_until_caught_up()
    assert damage_all(site.online, only=1) == 1
    wait_until(
        lambda: metrics(ingest).get("eventide_ingest_online_mended_total") == 1,
        what="the value is repaired",
        limit_s=120,
    )
    assert metrics(ingest)["eventide_ingest_online_values_damaged_total"] == 1
    site.wait_until_caught_up()
    assert ingest.stop() == 0
    site.assert_all_in_place()


def send_requests(site: Installation, count: int) -> list[ForecastRequested]:
    """Requests as of the newest event, the end of the known history."""
    offline = open_offline(Settings(state_dir=site.state))
    newest_us = max(offline.newest_known_at_us(event) or 0 for event in event_types())
    origins = ("EWR", "JFK", "LGA")
    requests = [
        a_request(f"d{n}", flight_id=f"d{n}", event_time_us=newest_us, origin=origins[n % 3])
        for n in range(count)
    ]
    for request in requests:
        key = encode_key(REQUESTED, request)
        site.source.put(REQUESTED.name, encode(request), key=key, timestamp_ms=newest_us // 1_000)
    site.source.flush()
    return requests


def damage_all(folder: Path, *, only: int | None = None) -> int:
    """Flip a bit in the header of every value, or of some; returns how many."""
    with (
        closing(lmdb.open(str(folder), map_size=1 << 30, sync=False)) as env,
        env.begin(write=True) as txn,
    ):
        values = [(k, bytes(v)) for k, v in txn.cursor() if k.startswith(b"v")][:only]
        for key, value in values:
            flipped = bytearray(value)
            flipped[20] ^= 1
            txn.put(key, bytes(flipped))
    return len(values)


def metrics(process: IngestProcess | ServingProcess) -> dict[str, float]:
    """The metrics of a process; empty while its page does not answer."""
    lines = [line for line in process.get("/metrics")[1].splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

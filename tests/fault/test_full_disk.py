"""A full disk stops ingest and loses nothing; ingest continues by itself once there is room."""

from pathlib import Path

import pytest

from infra.settings import KafkaSettings
from tests.support.processes.ingest import (
    Source,
    assert_all_in_place,
    audited,
    ingesting,
    reached,
    wait_until_done,
)
from tests.support.servers import kafka_broker
from tests.support.small_disk import small_disk
from tests.support.waiting import repeat_for, wait_until

pytestmark = pytest.mark.fault

LIMIT_S = 180


@pytest.mark.parametrize("store", ["offline", "online"])
def test_ingest_waits_for_a_full_disk_and_loses_nothing(tmp_path: Path, store: str) -> None:
    with kafka_broker(tmp_path) as broker, small_disk(tmp_path / "small", mib=64) as disk:
        servers = broker.bootstrap_servers
        kafka = KafkaSettings(bootstrap_servers=servers)
        source = Source(kafka)
        folder = {f"EVENTIDE_{store.upper()}_STORE": str(disk.folder / store)}
        with ingesting(tmp_path, servers, within=disk.within, **folder) as process:
            source.send(1_000, poison_each=100, twice_each=90)
            source.flush()
            wait_until_done(kafka, limit_s=LIMIT_S)
            reached_before = reached(kafka)
            disk.fill()
            source.send(3_000, poison_each=100, twice_each=90)
            source.flush()

            def says_why() -> bool:
                status, page = process.get("/readyz")
                return status == 503 and "No space left on device" in page

            def refuses() -> None:
                assert process.get("/readyz")[0] == 503

            wait_until(says_why, what="ingest says that the disk is full", limit_s=LIMIT_S)
            process.kill()  # a restart neither helps nor does harm
            process.start()
            wait_until(says_why, what="the next ingest says it too", limit_s=LIMIT_S)
            repeat_for(refuses, seconds=5, pause_s=0.1)  # ingest tries again and again meanwhile
            assert process.get("/healthz")[0] == 200
            assert reached(kafka) == reached_before

            disk.make_room()
            wait_until_done(kafka, limit_s=LIMIT_S)
            wait_until(process.ready, what="ingest is ready again", limit_s=LIMIT_S)
            assert process.stop() == 0
        audit = audited(tmp_path, servers, within=disk.within, **folder)
        assert_all_in_place(audit, source)

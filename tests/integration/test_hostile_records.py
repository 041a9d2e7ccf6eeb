"""Records that the client cannot read stop neither ingest nor serving, on a real broker."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from features.catalog.flights.events import DEPARTED, REQUESTED
from features.catalog.flights.services import FLIGHT_DELAY
from features.ingestion.dead_letter_sink import DEAD_LETTERS
from infra.kafka.message import Headers, Message, UnreadableHeaders, headers_of
from infra.kafka.topic_reader import read_all
from infra.settings import KafkaSettings
from tests.support.data.bundles import a_bundle
from tests.support.hostile_producer import NativeProducer
from tests.support.processes.ingest import Source, audited, ingesting, wait_until_done
from tests.support.processes.serving import (
    Feeder,
    Site,
    all_answered,
    dead_letters,
    outcomes,
    prepare_site,
    serving,
)
from tests.support.servers import kafka_broker
from tests.support.topics import new_topics
from tests.support.waiting import wait_until

MEGABYTE = 1_000_000
AT_MS = 1_357_041_600_000


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[KafkaSettings]:
    with kafka_broker(tmp_path) as broker:
        yield KafkaSettings(bootstrap_servers=broker.bootstrap_servers)


def send_hostile(kafka: KafkaSettings, topic: str) -> None:
    """A header whose name is not UTF-8, and batches of which a few kilobytes unpack to 90 MB."""
    native = NativeProducer(kafka.bootstrap_servers)
    headers = [(b"\xff\xfe", b"1"), (b"schema", b"x"), (b"n", None)]
    native.send(topic, b"{}", key=b"flight-1", headers=headers, timestamp_ms=AT_MS, partition=0)
    native.flush()
    native.close()
    bomber = Producer(
        {
            "bootstrap.servers": kafka.bootstrap_servers,
            "compression.type": "zstd",
            "message.max.bytes": 300 * MEGABYTE,
        }
    )
    for size in (60, 90, 150):
        bomber.produce(topic, b"x" * (size * MEGABYTE), partition=0, timestamp=AT_MS)
        assert bomber.flush(60) == 0


def places(letters: list[Message]) -> list[tuple[int, str]]:
    headers = [{k: (v or b"").decode() for k, v in m.headers() or ()} for m in letters]
    return [(int(h["dlq.offset"]), h["dlq.error"]) for h in headers if h["dlq.partition"] == "0"]


HOSTILE_HEADERS: list[list[tuple[bytes, bytes | None]]] = [
    [(b"\xff", b"1")],
    [(b"\xff", b"1"), (b"a", b"1")],
    [(b"a", b"1"), (b"\xff", b"1"), (b"schema", b"x")],
    [(b"\xff", None), (b"\xfe", None)],
]


def test_names_of_headers_that_are_not_utf_8_are_noticed_at_every_look(
    kafka: KafkaSettings,
) -> None:
    (topic,) = new_topics(kafka, "headers", partitions=1)
    native = NativeProducer(kafka.bootstrap_servers)
    # Many times: Python takes another path after some calls.
    for headers in HOSTILE_HEADERS * 50:
        native.send(topic, b"v", headers=headers)
        native.send(topic, b"v", headers=[(b"", None), (b"sound\0", b"1"), (b"\xc3\xbc", b"2")])
    native.flush()
    native.close()
    headers_read = []
    for message in read_all(kafka, [topic]):
        for _ in range(2):
            try:
                headers_read.append(headers_of(message))
            except UnreadableHeaders:
                headers_read.append([])
    sound: Headers = [("", None), ("sound", b"1"), ("ü", b"2")]
    assert headers_read == [[], [], sound, sound] * 200


def test_ingest_dead_letters_them_by_place_and_stores_their_neighbours(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    source = Source(kafka)
    source.send(500)
    source.flush()
    send_hostile(kafka, DEPARTED.name)
    source.send(500)
    source.flush()
    with ingesting(tmp_path, kafka.bootstrap_servers) as process:
        wait_until_done(kafka)
        assert process.stop() == 0, process.text()
        assert process.ended == 0
    codes = [code for _, code in places(list(read_all(kafka, [DEAD_LETTERS])))]
    assert codes == ["unknown_schema", "not_json", "not_json", "not_json"]
    audit = audited(tmp_path, kafka.bootstrap_servers)
    assert audit["clean"], json.dumps(audit)
    assert audit["totals"]["events"]["stored"] == 1_000


def test_serving_rejects_them_and_answers_their_neighbours(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    site: Site = prepare_site(kafka, tmp_path)
    a_bundle(site.bundle, FLIGHT_DELAY)
    feeder = Feeder(kafka)
    feeder.send(50)
    feeder.flush()
    send_hostile(kafka, REQUESTED.name)
    feeder.send(50)
    feeder.flush()
    with serving(site) as process:
        wait_until(lambda: all_answered(site), what="all requests are answered", limit_s=60)
        assert process.stop() == 0
    answers = [outcome for _, outcome in outcomes(site)]
    assert sum(o.outcome == "predicted" for o in answers) == 100
    assert sorted(o.reason or "" for o in answers if o.outcome == "rejected") == [
        "not_json",
        "not_json",
        "not_json",
        "unknown_schema",
    ]
    assert len({o.source for o in answers}) == len(answers) == 104
    assert len(dead_letters(site)) == 4
